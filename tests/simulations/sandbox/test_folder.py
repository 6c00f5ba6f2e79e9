"""The folder of a sandbox: one that was killed is tidied up by the next, and one that lives is left alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from palate_sandbox.folder import PREFIX, sandbox_folder
from palate_sim.scratch import LOCK

LIVES = """
from palate_sandbox.folder import sandbox_folder
with sandbox_folder() as made:
    (made / "store").write_text("what somebody did")
    print(made, flush=True)
    input()
"""


def test_what_was_killed_is_removed_by_the_next_and_what_lives_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    others = tmp_path / f"{PREFIX}of-somebody"
    others.mkdir()  # without a lock nobody knows whose it is
    (tmp_path / f"{PREFIX}link{LOCK}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}link").mkdir()
    command = [sys.executable, "-c", LIVES]
    with subprocess.Popen(
        command, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        its = Path(process.stdout.readline().strip())
        with sandbox_folder() as own:
            assert (its / "store").exists()
            assert own != its
        process.kill()
    assert (its / "store").exists()
    with sandbox_folder() as own:
        assert not its.exists()
        assert own.stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir()} == {others.name, f"{PREFIX}link", f"{PREFIX}link{LOCK}"}
