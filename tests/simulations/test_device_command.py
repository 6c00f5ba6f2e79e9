"""`palate device` does what the SDK does, and says what is wrong in one line."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_client.consent import PURPOSES
from palate_client.device import Device


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    return ["--store", str(tmp_path / "store"), "--key", str(tmp_path / "key"), "--app", "shelf"]


def test_the_commands_in_turn(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert run(["device", *words, *where]) == 0
        return capsys.readouterr().out.strip()

    assert said("open") == "0 event(s); consent to nothing"
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert said("track", "like", "a") == "no consent"
    assert said("consent", "grant", "store", "--version", "2") == "store: granted"
    assert said("track", "view", "a", "--value", "30") == "stored"
    assert said("export", str(tmp_path / "mine.jsonl")).startswith("3 lines")
    assert said("import", str(tmp_path / "mine.jsonl")) == "stored 0, there before 1, too old 0, without consent 0"
    report = json.loads(said("report", "--json", "--public-key", "ab" * 32, "--population", "readers"))
    assert (report["consents"]["store"], report["spending"]["epsilon"]) == (True, 0.0)
    assert report["decisions"][0]["version"] == "2"
    assert "no server" in said("report")
    assert said("consent", "revoke", "store").startswith("store: revoked; what was stored before is kept")
    assert said("erase") == "erased"
    assert said("open") == "0 event(s); consent to nothing"


def test_every_purpose_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["device", "consent", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(purpose in told for purpose in PURPOSES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["consent", "allow", "store"], "grant or revoke"),
        (["consent", "grant", "everything"], "`purpose` must be one of"),
        (["track", "ate", "a"], "`kind` must be"),
        (["report", "--population", "readers"], "given together"),
        (["import", "nowhere.jsonl"], "readable file"),
    ],
)
def test_mistakes_are_one_line(
    where: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["device", "open", *where]) == 0
    capsys.readouterr()
    assert run(["device", *words, *where]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_key_that_others_can_read_is_refused(
    where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["device", "track", "like", "a", *where]) == 2
    assert "`palate device open`" in capsys.readouterr().err
    assert run(["device", "open", *where]) == 0
    (tmp_path / "key").chmod(0o644)
    assert run(["device", "open", *where]) == 2
    assert "chmod 600" in capsys.readouterr().err


@pytest.fixture
def service(make_run: Callable[..., Any], tmp_path: Path) -> tuple[Any, list[str], Path]:
    """A run, the options that name it, and its published model."""
    run_ = make_run()
    folder = run_.publish(run_.coordinator())
    return run_, ["--public-key", run_.key.public, "--population", "readers"], folder


def test_a_model_and_recommendations(
    where: list[str], service: tuple[Any, list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, named, folder = service

    def said(*words: str) -> str:
        assert run(["device", *words, *where]) == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    said("open")
    said("consent", "grant", "store")
    assert said("update-model", "--missing", str(folder), *named).splitlines() == ["items", "model.int8.safetensors.z"]
    assert said("update-model", str(folder), *named).endswith("30 items; now in use")
    assert said("update-model", str(folder), *named).endswith("already in use")
    assert len(said("recommend", "--count", "3", *named).splitlines()) == 3


def test_a_title_does_not_steer_the_terminal(
    where: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Titles are whatever a model's table or a public log has."""
    shown = Namespace(position=0, item="a", title="A\x1b]52;c;aGk=\x07\nB\u202e", reason="you liked \x1b[2J")
    monkeypatch.setattr(Device, "recommend", lambda *_, **__: [shown])
    assert run(["device", "open", *where]) == 0
    capsys.readouterr()
    assert run(["device", "recommend", *where]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.strip().isprintable()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recommend", "--population", "readers", "--public-key", "ab"], "`public_key` must be 64"),
        (["recommend", "--population", "readers", "--public-key", "ab", "--count", "0"], "'--count': 0 is not in"),
        (["update-model", "nowhere", "--population", "readers", "--public-key", "ab" * 32], "model folder must hold"),
    ],
)
def test_mistakes_with_a_service_are_one_line(
    where: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["device", "open", *where]) == 0
    capsys.readouterr()
    assert run(["device", *words, *where]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
