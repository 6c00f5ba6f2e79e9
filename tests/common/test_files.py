import os
from pathlib import Path

import pytest

from palate_common.records.files import make_folder, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"first", b"", b"\0second" * 100_000):
        write_durably(path, data)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o644
    write_durably(path, b"secret", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]


def test_the_data_reach_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if Path(f"/dev/fd/{descriptor}").is_dir() else "data")
        fsync(descriptor)

    def watched_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_durably(tmp_path / "file", b"data")
    assert steps == ["data", "rename", "folder"]
    steps.clear()
    make_folder(tmp_path / "folder")
    assert steps == ["folder"]


@pytest.mark.parametrize("broken", ["fsync", "rename"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(*((os, "fsync", fail) if broken == "fsync" else (Path, "replace", fail)))
    with pytest.raises(OSError, match="full"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "none" / "file", b"data")
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "none" / "folder")


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    make_folder(tmp_path / "folder")
    write_durably(tmp_path / "folder" / "file", b"data")
    make_folder(tmp_path / "folder")
    assert names(tmp_path / "folder") == ["file"]
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "folder" / "file")
