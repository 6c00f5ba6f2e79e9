"""`palate device statement` and `erase --statement`: what remains, from a shell."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import palate
from palate_cli.cli import app
from palate_client.leaving.statement import Statement


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    """The options of a store with an event."""
    options = ["--store", str(tmp_path / "shelf"), "--key", str(tmp_path / "shelf.key")]
    for command in (["open"], ["consent", "grant", "store"], ["track", "like", "book-7"]):
        said(*command, *options)
    return options


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["device", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_remains_is_said_and_written(store: list[str], tmp_path: Path) -> None:
    sample = palate.sample()
    service = ["--public-key", sample.service.public_key, "--population", sample.service.population]
    assert "`palate device statement`" in said("report", *store)
    assert "nothing was erased by making it" in said("statement", *store, *service)
    preview, mine = tmp_path / "preview.json", tmp_path / "mine.json"
    preview.write_text(said("statement", *store, *service, "--json"))
    text = said("erase", *store, *service, "--statement", str(mine))
    assert "made to erase it" in text
    assert text.endswith("erased\n")
    assert "book-7" not in text + mine.read_text()
    made = Statement.from_bytes(mine.read_bytes())
    assert Statement.from_bytes(preview.read_bytes().rstrip()) == made.model_copy(update={"final": False})
    assert said("open", *store).startswith("0 event(s)")
