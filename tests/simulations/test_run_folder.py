"""Run folders: new ones only, whole ones only, and nothing left of one that can't be made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_sim.run import run_folder
from palate_sim.run.run_folder import FACTS, RunFolder, check_new, create, default_folder

STARTED: dict[str, Any] = dict.fromkeys(FACTS, "x")


def test_a_new_folder_has_its_facts_and_a_private_key(tmp_path: Path) -> None:
    folder = create(tmp_path / "deep" / "run", STARTED)
    assert folder.read() == STARTED
    assert folder.key_file.stat().st_mode & 0o777 == 0o600
    assert len(load_key(folder.key_file).public) == 64
    assert (folder.finished, folder.begun) == (False, False)
    assert sorted(path.name for path in folder.path.iterdir()) == ["key", "run.json"]


def test_an_empty_folder_will_do_and_any_other_will_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty", STARTED)
    with pytest.raises(InputError, match="holds a run already; use --resume"):
        create(tmp_path / "empty", STARTED)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "key").write_text("my own")
    with pytest.raises(InputError, match="got one with other content"):
        create(tmp_path / "mine", STARTED)
    assert (tmp_path / "mine" / "key").read_text() == "my own"


def test_two_starts_at_once_make_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "check_new", lambda _: None)  # both have looked before either wrote
    create(tmp_path / "run", STARTED)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match="keys are not overwritten"):
        create(tmp_path / "run", {**STARTED, "source": "other"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 300, "file/run"])
def test_nothing_is_left_of_a_folder_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="`--out` must be"):
        create(tmp_path / name, STARTED)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_facts_that_are_no_json_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        create(tmp_path / "run", {**STARTED, "source": float("nan")})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{", '"run"', json.dumps({"config": {}}), "\x00"])
def test_a_run_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"needs a run folder with its run\.json"):
        RunFolder(tmp_path).read()


def test_drafts_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", STARTED)
    (folder.path / "model").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)  # the process dies before the rename...
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # ...and never cleans up
        folder.write("result.json", b"{")
        folder.write("model/items", b"a")
    (folder.path / ".recommendations.csv.gz.partial").write_bytes(b"")
    (folder.path / ".keep").write_bytes(b"")
    assert len(list(folder.path.rglob(".*"))) == 4
    folder.tidy()
    kept = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*"))
    assert kept == [".keep", "key", "model", "run.json"]


@pytest.mark.parametrize("name", ["log", "a b/c", "...", "映画", "x" * 300, "-rf", "<b>"])
def test_a_default_folder_has_a_safe_name(name: str) -> None:
    folder = default_folder(name)
    assert folder.parent == Path("runs")
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,70}-\d{8}-\d{6}-[0-9a-f]{4}", folder.name)
    assert default_folder(name) != default_folder(name)


def test_a_path_with_a_null_byte_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`--out` must be a folder to write to"):
        check_new(Path("a\0b"))
