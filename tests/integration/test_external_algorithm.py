"""An algorithm from another package: found by its entry point, trained privately, and given a card."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_cli.cli import run
from palate_common.algorithms import make_algorithm, registry
from palate_common.models import published
from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_server.ledger.ledger import verify_extract
from palate_sim.card.card import verify_card

SOURCE = Path(__file__).parents[1] / "external" / "palate_mean_embeddings"
NAME = "mean_embeddings"

MakeRun = Callable[..., Any]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `pip install --target` leaves it: the module, and its metadata with the entry point."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    shutil.copy(SOURCE / "palate_mean_embeddings.py", folder)
    metadata = folder / f"palate_mean_embeddings-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["palate.algorithms"].items()
    lines = ["[palate.algorithms]", *(f"{name} = {target}" for name, target in points)]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def external(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be found in this process."""
    monkeypatch.syspath_prepend(installed)
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()
    sys.modules.pop("palate_mean_embeddings", None)


def test_it_is_about_sixty_lines() -> None:
    assert len((SOURCE / "palate_mean_embeddings.py").read_text().splitlines()) <= 70


@pytest.mark.usefixtures("external")
def test_its_settings_are_checked_like_any(make_run: MakeRun) -> None:
    facts = make_run().terms.facts
    for chosen in ({"embedding_size": 0}, {"size": 8}):
        with pytest.raises(InputError, match=r"`algorithm\."):
            make_algorithm(NAME, chosen, facts)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log of interactions."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, 31)
    lines = ["user_id,item_id"]
    for user in range(80):
        items = rng.choice(30, 8, replace=False, p=odds / odds.sum())
        lines += [f"u{user},i{item}" for item in items]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def simulate(log: Path, out: Path, *options: str) -> int:
    words = ["simulate", str(log), "--out", str(out), "--algorithm", NAME]
    return run([*words, "--set", "evaluation.baselines=none", "--set", "evaluation.projection=none", *options])


@pytest.mark.usefixtures("external")
def test_the_command_line_runs_it_and_gives_it_a_card(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert simulate(log, out, "--epsilon", "3", "--set", "algorithm.settings.embedding_size=4") == 0
    public_key = load_key(out / "key").public
    card = json.loads((out / "privacy_card.json").read_bytes())
    verify_card(card, public_key=public_key)
    assert card["stamp"] == "SIMULATED: masks off"
    assert 2.9 < card["epsilon"] <= 3
    (release,) = card["releases"]
    assert release["sealed"]
    assert release["dimension"] >= 30 * (1 + 4)
    extract = verify_extract((out / "ledger.json").read_bytes(), public_key)
    assert extract.entries[1].body["facts"]["algorithm"] == NAME
    found = published.read(out / "model", public_key=public_key)
    model, items = found.model, found.items
    assert (model.header.algorithm, len(items)) == (NAME, 30)
    assert model.hash == card["model_hash"]


def test_without_the_package_the_command_line_names_what_there_is(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(log, tmp_path / "run") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "mean_embeddings" in said
    assert "popularity" in said
    assert not (tmp_path / "run").exists()
