"""People: the file of a run's held-out people, and how a terminal shows what they get.

people = read_people(folder)     # of palate_sim.evaluation.people; [] where the run has none
console.print(people_shown(people))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from palate_sim.progress.wording import clean

PEOPLE_FILE = "people.json"
ROWS, WIDEST = 3, 34
"""Places of a list that a terminal shows, and letters of a title."""
HELD_OUT = "✓"
"""Marks what a person has: it was held out, and the model hasn't seen it."""


def read_people(folder: Path) -> list[dict[str, Any]]:
    """The people of a run's folder, without control characters; none where it has no such file."""
    try:
        found = json.loads((folder / PEOPLE_FILE).read_text(encoding="utf-8"), object_hook=_clean)
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _clean(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its texts cleaned; those in lists, which a person had, are cleaned where they are shown."""
    return {name: clean(each) if isinstance(each, str) else each for name, each in found.items()}


def had_words(person: Mapping[str, Any]) -> str:
    """What a person had, in a line."""
    more = person["given"] - len(person["had"])
    return clean("; ".join(person["had"])) + (f"; and {more:,} more" if more else "")


def popular_words(person: Mapping[str, Any], most: int | None = None) -> str:
    """What is most popular of what a person hasn't, in a line."""
    return "; ".join(marked(each) for each in person["popular"][:most])


def people_shown(people: Sequence[Mapping[str, Any]]) -> Group:
    """What each of them had and gets, with reasons, beside what is most popular."""
    whom = f"{len(people)} people, drawn by the seed," if len(people) > 1 else "one person"
    parts: list[RenderableType] = [
        Text(f"\nwhat {whom} would get ({HELD_OUT} held out: they do have it)", style="bold"),
    ]
    for number, person in enumerate(people, start=1):
        parts.append(Text(f"\nperson {number} had {had_words(person)}"))
        parts.append(Padding(listed(person["gets"][:ROWS]), (0, 0, 0, 2)))
        parts.append(Padding(Text(f"most popular: {popular_words(person, ROWS)}", style="dim"), (0, 0, 0, 2)))
    return Group(*parts)


def listed(rows: Iterable[Mapping[str, Any]]) -> Table:
    """A list: what is recommended, and why."""
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=WIDEST, style="bold cyan")
    table.add_column(overflow="fold")
    for each in rows:
        table.add_row(Text(clean(marked(each))), Text(clean(each["reason"])))
    return table


def marked(each: Mapping[str, Any]) -> str:
    """A title, with the mark if the person has it."""
    return f"{each['title']} {HELD_OUT}" if each["held_out"] else str(each["title"])
