"""An upgrade is tried on a copy, forgets nothing, and can be gone back from. Real former versions: benchmarks/serve."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_core.errors import InputError, IntegrityError, LockedError, PalateError
from palate_server.folder.backup import SCRATCH, last_backup, read_backup, scratch, write_backup
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import FORMAT, Site, format_of
from palate_server.rounds.lock import RunLock
from palate_server.service.status import read_status
from palate_server.service.upgrade import standing, try_upgrade, upgrade

Maker = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(make_shared_service: Maker) -> Any:
    """A server with devices, a charge and a release, in the format of before there was a number for it."""
    service = make_shared_service("trained")
    service.operate()
    (service.site.folder / "format").unlink()
    with closing(sqlite3.connect(service.site.enrolment_file)) as connection:
        connection.executescript("DROP TABLE labels; DROP TABLE seen")
    return service


@pytest.fixture
def old(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    return copy_of(trained)


def files(folder: Path) -> dict[str, bytes]:
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {str(path): data for path, data in found.items() if not path.name.endswith(("-wal", "-shm"))}


def test_a_trial_says_what_would_change_and_changes_nothing(old: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(old.site.enrolment_file)) as connection:
        connection.executescript(
            "UPDATE devices SET revoked = 1 WHERE number = 7;"
            "UPDATE devices SET revoked = 0, node = NULL, node_key = 'gone 6' WHERE number = 6"
        )
    before = files(old.site.folder)
    found = try_upgrade(old.site)
    assert files(old.site.folder) == before
    assert found.changes == (
        f"format 1 -> {FORMAT}", "register: tables labels, seen, empty; the former version reads on",
    )  # fmt: skip
    assert found.standing.devices == (8, 1, 1, 0), "also those that no longer take part"
    assert found.standing.spent > 0
    assert run(["serve", "upgrade", str(old.site.folder), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"would change: format 1 -> {FORMAT}" in said
    assert "8 devices" in said


def test_an_upgrade_forgets_nothing_and_the_devices_go_on(old: Any, tmp_path: Path) -> None:
    site, status = old.site, read_status(old.site)
    found = upgrade(site, tmp_path / "before.tar")
    assert format_of(site.folder) == FORMAT
    assert found.standing == standing(site)
    assert last_backup(site) is not None
    spent = read_status(site).mu2_spent
    assert spent == status.mu2_spent
    text = site.config_file.read_text().replace("every_hours = 720.0", "every_hours = 0.0")
    site.config_file.write_text(text)
    old.site = old.devices.site = Site(site.folder)
    old.operate()
    after = read_status(old.site)
    assert after.mu2_spent > spent
    assert after.releases > status.releases
    assert after.devices["enrolled"] == status.devices["enrolled"] == 8


def test_the_way_back_has_what_the_former_version_had(old: Any, tmp_path: Path) -> None:
    before = standing(Site(shutil.copytree(old.site.folder, tmp_path / "as-it-was")))
    upgrade(old.site, tmp_path / "before.tar")
    read_backup(tmp_path / "before.tar", tmp_path / "back", witnesses=[old.site.witness], without_witness=False)
    with closing(sqlite3.connect(tmp_path / "back" / "enrolment.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not {"labels", "seen"} & tables, "as the former version made it"
    assert standing(Site(tmp_path / "back")) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from palate_server.folder.server_folder import Site
from palate_server.service import upgrade

folder, archive, name, count, after = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
real, calls = getattr(upgrade, name), 0

def killed(*args, **given):
    global calls
    calls += 1
    found = real(*args, **given) if calls < count or after == "after" else None
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(upgrade, name, killed)
upgrade.upgrade(Site.at(folder), archive)
"""


@pytest.mark.parametrize(
    ("name", "count", "after"),
    [
        ("write_backup", 1, "after"), ("unpack", 1, "after"), ("_taken_over", 1, "after"),
        ("write_backup", 2, "before"), ("write_backup", 2, "after"), ("_taken_over", 2, "after"),
        ("write_format", 1, "before"), ("write_format", 1, "after"),
    ],
)  # fmt: skip
def test_one_that_is_killed_anywhere_forgets_nothing_leaves_no_key_and_is_done_by_the_next(
    old: Any, tmp_path: Path, name: str, count: int, after: str
) -> None:
    site, archive = old.site, tmp_path / "first.tar"
    before = standing(Site(shutil.copytree(site.folder, tmp_path / "as-it-was")))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(site.folder), str(archive), name, str(count), after],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert format_of(site.folder) == (FORMAT if (name, after) == ("write_format", "after") else 1)
    if archive.exists():
        read_backup(archive, tmp_path / "back", witnesses=[site.witness], without_witness=False)
        assert standing(Site(tmp_path / "back")) == before
    upgrade(Site.at(site.folder), tmp_path / "second.tar")
    assert format_of(site.folder) == FORMAT
    assert standing(site) == before
    keys = [path for path in site.folder.rglob("key") if path.is_file()]
    assert keys == [site.folder / "key"], "a copy of the key was left over"
    assert not list(site.state.glob("**/enrolment.db"))


def test_a_copy_that_is_being_made_is_left_alone_and_one_that_is_left_over_is_not(old: Any, tmp_path: Path) -> None:
    with scratch(old.site) as mine:
        (mine / "key").write_text("mine")
        left = old.site.state / f"{SCRATCH}0123"
        left.mkdir()
        (left / "key").write_text("a former one's")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (old.site.state / f"{SCRATCH}link").symlink_to(elsewhere)
        write_backup(old.site, tmp_path / "archive.tar")
        assert (mine / "key").exists()
        assert not left.exists()
        assert elsewhere.is_dir()
    assert not mine.exists()


def test_what_cannot_be_taken_over_is_refused_before_anything_is_changed(old: Any, tmp_path: Path) -> None:
    site, archive = old.site, tmp_path / "before.tar"
    with RunLock(site.folder), pytest.raises(LockedError):
        upgrade(site, archive)
    text = site.config_file.read_text()
    site.config_file.write_text(text.replace("epsilon = 4.0", "epsilon = 0.0000001", 1))
    with pytest.raises(PalateError):
        upgrade(Site(site.folder), archive)
    site.config_file.write_text(text)
    model = next(site.models.glob("*/model.safetensors"), None) or next(site.models.glob("*/*.json"))
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"?")
    with pytest.raises(IntegrityError):
        upgrade(Site(site.folder), archive)
    model.write_bytes(whole)
    assert not archive.exists()
    assert format_of(site.folder) == 1
    for wrong in ([], [str(archive), "--dry-run"]):
        assert run(["serve", "upgrade", str(site.folder), *wrong]) == 2


def test_a_folder_of_a_later_version_is_refused_with_the_way_out(old: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = old.site.folder / "format"
    file.write_text(json.dumps({"format": FORMAT + 1, "palate": "99"}))
    assert run(["serve", "status", str(old.site.folder)]) == 2
    assert "install the version that made it, or restore the backup" in capsys.readouterr().err
    file.write_text("[]")
    with pytest.raises(InputError, match="what Palate wrote"):
        Site.at(old.site.folder)


def test_a_new_folder_is_of_the_present_format(make_service: Maker) -> None:
    site = make_service("new").site
    assert json.loads((site.folder / "format").read_bytes())["format"] == FORMAT
    assert try_upgrade(site).changes == ("nothing",)
    with Enrolments(site.enrolment_file) as register:
        assert register.noted_since() is None
