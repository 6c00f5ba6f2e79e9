"""Input that is odd but can be meant: repaired, counted in result.json and in the report, and the run finishes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from palate_sim.run.result import Result

SPELLINGS = (
    'a "quoted" one',
    "one, with a comma",
    "<script>alert('item')</script>",
    "<b>&amp;",
    "naïve Æther 映画 🎬",
    "semi;colon|bar\\slash",
    "line\u2028separator\x85next",
    "=1+1",
    "#hash",
    "..",
    "é",  # composed, and decomposed: not the same id
    "e\u0301",
    "NaN?",
    "-0",
    "1e5",
)


@dataclass(frozen=True)
class Odd:
    """What is odd about a log, and what must be said about it: section of result.json -> name -> number."""

    rows: Callable[[list[Any]], Iterable[Any]]
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    header: str = "user,item,rating,timestamp"
    encoding: str = "utf-8"


def repaired(rows: list[Any]) -> Iterable[Any]:
    """Rows with one thing wrong each; rows again; and users with one event."""
    yield from ((*row[:3], 4_000_000_000) for row in rows[:4])
    yield from ((*row[:3], "soon") for row in rows[4:7])
    yield from ((f" {row[0]}\t", *row[1:]) for row in rows[7:14])
    yield from rows[14:]
    yield from [*rows[20:25], *((*row[:3], row[3] + 5) for row in rows[30:36])]
    yield from [("u1", "null", 3, 9), ("u2", "null", 3, 9), ("u1", "i1"), ("u1", "i2", 3, 4, 5)]
    yield from ((f"once-{place}", "i1", 3, 9) for place in range(40))


def lonely(rows: list[Any]) -> list[Any]:
    """Each user has one item that nobody else has."""
    return [*rows, *((f"u{user}", f"own-{user}", 5, 1_600_000_000) for user in range(300))]


def spelled(rows: list[Any]) -> list[Any]:
    """The popular items, and as many users, have names that file formats trip over."""
    items = {f"i{place}": name for place, name in enumerate(SPELLINGS)}
    users = {f"u{place}": name for place, name in enumerate(SPELLINGS)}
    return [(users.get(user, user), items.get(item, item), *rest) for user, item, *rest in rows]


def kinds(rows: list[Any]) -> list[Any]:
    """Every tenth event is a refund."""
    return [(*row[:2], "refund" if place % 10 == 0 else "buy") for place, row in enumerate(rows)]


SPLIT = "split"
EVENTS = "user,item,event"
LOGS = {
    "repairs of every kind": Odd(
        repaired,
        {
            "repairs": {
                "exact_duplicates": 5,
                "repeated_pairs": 6,
                "times_in_the_future": 4,
                "times_missing": 3,
                "ids_trimmed": 7,
                "rows_without_id": 2,
                "single_event_users": 40,
                "lines_of_another_width": 2,
                "byte_order_mark": 1,
            },
            "preparation": {"repeats_merged": 6},
        },
        encoding="utf-8-sig",
    ),
    "items that no training user has": Odd(
        lonely,
        {SPLIT: {"items_of_no_training_user": 60}},  # those of the validation and the test users
    ),
    "names that file formats trip over": Odd(spelled),
    "kinds that weigh nothing": Odd(
        kinds,
        {"preparation": {"rows_of_kinds_without_weight": 336}},
        ("--set", "data.weights={buy=1, refund=0}"),
        header=EVENTS,
    ),
    "a user with thousands of items": Odd(
        lambda rows: [*rows, *(("glutton", f"i{item}", 3, item) for item in range(4000))]
    ),
    "weights beyond float32": Odd(
        kinds,
        options=("--set", "data.weights={buy=1e300, refund=1e-300}", "--set", "positives.combine=sum"),
        header=EVENTS,
    ),
    "values beyond float32": Odd(lambda rows: [(*row[:2], "1e300", row[3]) for row in rows]),
    "events that faded away": Odd(lambda rows: rows, options=("--set", "positives.half_life_days=0.0001")),
}


@pytest.mark.parametrize("case", LOGS)
def test_an_odd_log_is_repaired_and_counted(palate: Any, folder: Path, rows: Any, quick: Any, case: str) -> None:
    odd = LOGS[case]
    made = [list(row) for row in odd.rows(list(rows))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([odd.header.split(","), *made])
    (folder / "odd.csv").write_bytes(text.getvalue().encode(odd.encoding))

    done = palate("simulate", "odd.csv", "--out", "run", "--save-recommendations", *odd.options, *quick, cwd=folder)

    assert done.code == 0, done.err
    assert "Warning" not in done.err, done.err
    result = json.loads((folder / "run" / "result.json").read_text())
    page = text_of((folder / "run" / "report.html").read_text())
    report = page[page.rindex(" Split split ") - 500 : page.index(" Privacy card For every ")]
    for section, counts in odd.counted.items():
        for name, count in counts.items():
            assert result[section].get(name, 0) == count, result[section]
            if count:
                assert re.search(rf"\b{count:,} ", report), report
    assert 0 < result["metrics"]["recall_capped@20"]["mean"] <= 1
    finished = Result.read(folder / "run")
    wanted = {tidy(row[1]) for row in made if len(row) == len(odd.header.split(","))} - {"null"}
    assert set(finished.items) == wanted
    assert len(finished.items) == len(wanted) == finished.model.header.facts.n_items


def tidy(item: object) -> str:
    """An id as Palate writes it."""
    return re.sub(r"\.0$", "", str(item).strip())


def text_of(page: str) -> str:
    """The text of a page, its tags and scripts left out, white space made even."""
    shown = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def test_names_come_back_from_every_file(palate: Any, folder: Path, rows: Any, quick: Any) -> None:
    """Users and items with commas, quotes, tags and separators: recommendations and split are plain CSV."""
    with (folder / "odd.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user", "item", "rating", "timestamp"), *spelled(list(rows))])
    done = palate("simulate", "odd.csv", "--out", "run", "--save-recommendations", *quick, cwd=folder)
    assert done.code == 0, done.err
    import pandas as pd

    known = {row[0] for row in spelled(list(rows))}, {row[1] for row in spelled(list(rows))}
    for name in ("recommendations", "split/train", "split/foldin", "split/test"):
        table = pd.read_csv(folder / "run" / f"{name}.csv.gz", dtype=str, keep_default_na=False)
        assert set(table["user_id"]) <= known[0]
        assert set(table["item_id"]) <= known[1]
    recommended = pd.read_csv(folder / "run" / "recommendations.csv.gz", dtype=str, keep_default_na=False)
    assert set(SPELLINGS) <= set(recommended["item_id"])
    page = (folder / "run" / "report.html").read_text()
    assert "<script>alert" not in page


def test_a_data_set_with_a_hostile_name(palate: Any, folder: Path, quick: Any) -> None:
    name = "<img src=x onerror=alert(1)>\x1b[31m\n"
    (folder / "log.csv").rename(folder / f"{name}.csv")
    done = palate("simulate", f"{name}.csv", "--out", "run", *quick, cwd=folder)
    assert done.code == 0, done.err
    assert "\x1b[31m" not in done.err + done.out
    page = (folder / "run" / "report.html").read_text()
    assert "<img src=x" not in page
    assert json.loads((folder / "run" / "result.json").read_text())["name"] == name


@pytest.mark.parametrize("name", ["a" * 240 + ".csv", "映画" * 40 + ".csv"])
def test_a_data_set_with_an_odd_file_name(palate: Any, folder: Path, quick: Any, name: str) -> None:
    (folder / "log.csv").rename(folder / name)
    done = palate("simulate", name, *quick, cwd=folder)
    assert done.code == 0, done.err
    assert len(list((folder / "runs").glob("*/result.json"))) == 1
    assert len(list((folder / "runs").glob("*.ledger.db"))) == 1
