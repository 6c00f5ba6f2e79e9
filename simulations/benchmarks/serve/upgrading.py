"""Upgrading: a folder of a former commit is taken over, served and left again, with devices of now.

the former tree makes a folder, devices of now take part -> stop -> dry run, upgrade -> the present tree serves them
-> stop, wipe -> the former tree restores its backup with the witness -> the same devices go on
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.serve.world import ITEMS, World
from palate_core.errors import PalateError
from palate_server.folder.server_folder import Site, format_of
from palate_server.service.upgrade import standing, try_upgrade, upgrade

FORMER = "8d9934557541b1fc04ea37f8567ba09afb00de6e"
"""The commit before folders had a format."""
TREE = Path(__file__).parents[3]
PACKAGES = ("common", "client", "server", "simulations")
DEVICES, SIZE = 8, 7
FOLDER = "import sys, pathlib; from palate_server.service.setup import make_site; " \
    "make_site(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(), tuple(sys.argv[3:]))"  # fmt: skip


class FormerWorld(World):
    """A server folder that a former tree makes, and serves at first, with devices of the present one.

    Args:
        home: where everything is.
        tree: the former tree.
    """

    def __init__(self, home: Path, tree: Path) -> None:
        path = os.pathsep.join(str(tree / name) for name in PACKAGES)
        self._former = {**os.environ, "PYTHONPATH": path}
        super().__init__(home, size=SIZE, settings="{rounds = 2}", dropout=0.17)
        self.environment = self._former

    def make(self, folder: Path, config: str) -> Site:
        """Make the server folder by the former tree."""
        text = folder.with_suffix(".toml")
        text.write_text(config)
        self._say([sys.executable, "-c", FOLDER, str(folder), str(text), *ITEMS])
        return Site.at(folder)

    def invitations(self, count: int) -> list[str]:
        """Invitations by the former tree."""
        file = self.folder / f"invitations-{time.monotonic_ns()}"
        self.former("enroll", str(self.site.folder), "--count", str(count), "--out", str(file))
        return file.read_text().splitlines()

    def former(self, *words: str) -> str:
        """What `palate serve ...` of the former tree says."""
        return self._say([sys.executable, "-m", "palate_cli", "serve", *words])

    def present(self) -> None:
        """Be served by the present tree from now on."""
        self.environment = None

    def back(self) -> None:
        """Be served by the former tree again."""
        self.environment = self._former

    def _say(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, env=self._former, capture_output=True, text=True, timeout=300.0, check=False)
        if done.returncode:
            raise PalateError(f"the former tree must do its part, got {done.stderr.strip()[-300:]}")
        return done.stdout.strip()


def upgraded(home: Path) -> dict[str, Any]:
    """All of it, with the same devices at work throughout; what was found."""
    tree = home / "former"
    command = ["git", "-C", str(TREE), "archive", FORMER, *PACKAGES]
    with tarfile.open(fileobj=BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)) as tar:
        tar.extractall(tree, filter="data")
    world, archive, late = FormerWorld(home, tree), home / "before.tar", home / "late"
    world.start()
    try:
        with world.fleet(DEVICES):
            world.wait(lambda: len(world.events("round")) >= 2, seconds=300.0)
            world.stop()
            former, tried = format_of(world.site.folder), try_upgrade(world.site)
            before = standing(world.site)
            found = upgrade(world.site, archive)
            world.present()
            released = len(world.events("round"))
            seconds = _go_on(world, released)
            users = world.events("round")[released]["users"]
            after = standing(world.site)
            world.stop()
            spent = standing(world.site).spent
            shutil.copytree(world.site.witness, late)
            shutil.rmtree(world.site.folder)
            world.back()
            said = world.former("restore", str(archive), str(world.site.folder), "--witness", str(late))
            back = standing(Site(world.site.folder))
            again = _go_on(world, 0)
            again_users = world.events("round")[0]["users"]
    finally:
        world.stop()
    return {
        "former": FORMER,
        "formats": [former, found.present],
        "changes": list(tried.changes),
        "same": before == tried.standing == found.standing,
        "spent": {"before": before.spent, "after": after.spent, "shown": spent, "back": back.spent},
        "devices": {"before": before.devices[0], "after": after.devices[0], "back": back.devices[0]},
        "identities_same": before.identities == after.identities == back.identities,
        "users": [users, again_users],
        "seconds": [seconds, again],
        "said": said,
    }


def _go_on(world: World, released: int) -> float:
    """Serve; seconds until one more round was released."""
    world.start()
    return world.wait(lambda: len(world.events("round")) > released, seconds=400.0)
