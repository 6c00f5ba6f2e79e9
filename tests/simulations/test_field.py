"""The table of published private figures: each with its source and everything that a reader must know to compare."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.field import run as field
from benchmarks.sheet import plain
from benchmarks.worlds import film_archives
from palate_sim.metrics import RATING_METRICS, USER_METRICS
from palate_sim.preparation.splits import PUBLISHED, SPLITS

ROWS = json.loads(field.PUBLISHED.read_text(encoding="utf-8"))
SAID = (
    "who",
    "data",
    "split",
    "metric",
    "epsilon",
    "delta",
    "unit",
    "adjacency",
    "items",
    "trusted",
    "differs",
    "source",
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['data']}-{row['epsilon']}-{row['who'][:12]}")
def test_every_published_figure_says_what_it_takes_to_compare_it(row: dict[str, Any]) -> None:
    assert set(row) - {"empty"} == {*SAID, "figure", "address"}
    assert all(isinstance(row[name], str) and row[name].strip() for name in (*SAID, "address"))
    assert re.match(r"https://\S+\Z", row["address"])
    assert re.search(r"table \d|dpam\.ipynb", row["source"])  # a place in a paper, or in a notebook at a commit
    assert row["metric"].partition("@")[0] in {*USER_METRICS, *RATING_METRICS}
    assert row["split"] in {*SPLITS, *PUBLISHED, "80-20 of ratings"}
    if row["figure"] is None:
        assert row["empty"].strip()
    else:
        assert 0 < row["figure"] < 2
        assert "empty" not in row
    private = [row[name] for name in ("epsilon", "delta", "unit", "adjacency")]
    assert private == ["none"] * 4 or (
        float(row["epsilon"]) > 0 and 0 < float(row["delta"]) < 1 and "none" not in private
    )


def test_ours_stand_beside_them_and_an_empty_cell_says_why() -> None:
    tables = field.standing({})
    assert sum(len(table.rows) for table in tables) == len(ROWS) + len(tables)
    for table in tables:
        assert all(len(row) == len(table.header) for row in table.rows)
        assert all(
            cell
            for row in table.rows
            for cell, name in zip(row, table.header, strict=True)
            if name != "figure" and name != "eps"
        )
        ours = table.rows[-1]
        assert (ours[0], ours[1]) == ("", "Palate")
        assert "not measured" in " ".join(ours)
        assert "--parts" in ours[-1]
    figures = [
        {
            "seed": seed,
            "epsilon": epsilon,
            "features": "none",
            "models": {"palate": {"rmse": 0.9 + seed / 100}},
            "delta": 1e-5,
        }
        for epsilon in (1.0, None)
        for seed in range(2)
    ]
    [ours] = [table.rows[-2:] for table in field.standing({"ml-10m": figures}) if "MovieLens 10M" in table.title]
    assert [row[:4] for row in ours] == [
        ("0.9050 ± 0.0050", "Palate", "1", "1e-05"),
        ("0.9050 ± 0.0050", "Palate", "none", "none"),
    ]


@pytest.mark.soak
def test_both_protocols_leave_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, preset, more in (
        ("ml-20m", "liang2018", {"split.held_out_users": 20}),
        ("ml-10m", "chien2021", {}),
    ):
        archive = tmp_path / f"{name}.zip"
        film_archives.write(name, archive, users=120, films=640, ratings=5_000)
        (tmp_path / name).mkdir()
        with zipfile.ZipFile(archive) as bundle:
            for member in bundle.namelist():
                (tmp_path / name / Path(member).name).write_bytes(bundle.read(member))
        monkeypatch.setattr(field, "BESIDE", ("popularity",))
        monkeypatch.setattr(field, "EPSILONS", {preset: (50, None)})
        figures = plain(field.runs(preset, name, more, tmp_path, (field.SEEDS[preset],)))
        [table] = field.runs_tables(preset, name, figures)
        assert [row[0] for row in table.rows[:4]] == [
            f"Palate, eps {eps}, {label}" for eps in ("50", "off") for label in field.LABELS.values()
        ]
        assert len(table.rows) == (5 if preset == "liang2018" else 4)  # popularity is of all runs without privacy
        assert "unit user, adjacency zero-out" in table.note
        [beside] = [
            each for each in field.standing({name: figures}) if preset in each.title and name[3:-1] in each.title
        ]
        assert [row[1] for row in beside.rows][-4:] == ["Palate"] * 4
