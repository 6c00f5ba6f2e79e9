"""The page: all results of a run in one HTML file that loads nothing.

It joins the sentences, charts and tables of this package with `templates/report.html.j2`.

    write_report(result, card, Path("runs/demo"))

Three things keep hostile data (a data set's name, an item id, a group) from becoming markup: every template escapes,
figure data is JSON with `<`, `>` and `&` written as escapes, and the page's content security policy lets the browser
run only the scripts whose hashes it lists and load nothing from anywhere.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # plotly ships no types

from palate_common.records.files import write_durably
from palate_core.errors import InputError
from palate_sim.config import as_shown
from palate_sim.plots.theme import INK
from palate_sim.progress.people import HELD_OUT, had_words, read_people
from palate_sim.progress.wording import is_private, stamp
from palate_sim.report import card as cards
from palate_sim.report import charts, sentences, tables
from palate_sim.report.charts import VIEWS
from palate_sim.templates import environment


def write_report(result: Mapping[str, Any], card: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` into the run folder and return its path.

    Args:
        result: what goes to `result.json`; any part may be missing but the name, and its section is then left out.
        card: what goes to `privacy_card.json`; `{}` for a run without privacy.
        folder: the run folder, which exists; what it has of people (`people.json`) is shown.

    Returns:
        The path of the file, which is replaced in one step.

    Raises:
        InputError: if `folder` is no folder.
    """
    if not folder.is_dir():
        raise InputError(f"`folder` must be an existing folder, got {folder}")
    path = folder / "report.html"
    write_durably(path, render(result, card, read_people(folder)).encode())
    return path


def render(result: Mapping[str, Any], card: Mapping[str, Any], people: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page as text; `people` are some held-out people, as `people.json` has them."""
    pages, drawn = environment(), charts.build(result, card)
    return pages.get_template("report.html.j2").render(
        run=result.get("run") or "without a name",
        created=result.get("created"),
        warnings=result.get("warnings") or [],
        guarantee=card.get("guarantee"),
        carded=bool(card),
        stamp=stamp(result),
        private=is_private(result),
        name=result.get("name", "an unnamed data set"),
        headline=sentences.headline(result),
        privacy=sentences.privacy(result),
        lead=sentences.lead(result),
        first=sentences.first_screen(result, card),
        people=[(had_words(person), person["gets"], person["popular"]) for person in people],
        held_out=HELD_OUT,
        views=[view for view in VIEWS if view in drawn],
        users_buy=sentences.users_buy(result),
        key_numbers=tables.key_numbers(result),
        charts=drawn,
        metrics_table=tables.every_metric(result),
        domains_table=tables.by_domain(result),
        domain_sizes=tables.domain_sizes(result),
        recency=sentences.recency(result),
        recency_table=tables.recency(result),
        data=tables.data(result),
        setting=tables.flatten(as_shown(result.get("config") or {})),
        card_groups=cards.card_groups(card),
        releases=cards.releases(card),
        exclusions=cards.exclusions(card),
        limits=sentences.limits(result),
        command=result.get("command"),
        repeatable=sentences.repeatable(result),
        definitions=sentences.definitions(result),
        **parts_of_page(pages),
    )


def parts_of_page(pages: Environment) -> dict[str, str]:
    """What every page brings along: its style, its scripts, and a policy by which they run and nothing is loaded."""
    library = Markup(get_plotlyjs())  # noqa: S704  # plotly's own file, not data
    behaviour = Markup(pages.get_template("report.js.j2").render(ink=INK))  # noqa: S704  # our own file, without data
    return {
        "style": Markup(pages.get_template("report.css.j2").render()),  # noqa: S704  # our own file, without data
        "library": library,
        "behaviour": behaviour,
        "policy": f"default-src 'none'; script-src {_hash(library)} {_hash(behaviour)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'",
    }


def _hash(script: str) -> str:
    """The content security policy's name of an inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
