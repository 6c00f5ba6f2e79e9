"""Restoring: the server is lost, with everything on it but a backup and the witness; devices stay as they are.

a run, backup, more runs -> SIGKILL, wipe -> restore with the witness of the last charge -> the next round
                         -> SIGKILL, wipe -> restore with the witness of the backup      -> devices refuse
                         -> SIGKILL, wipe -> restore with the witness of the last charge -> the next round
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.serve.world import World
from palate_core.log.consistency import spend_shown
from palate_server.folder.backup import read_backup, write_backup
from palate_server.folder.witness import WITNESS
from palate_server.operation.releases import listed

DEVICES, SIZE, SEEN = 8, 7, 5
WATCHED = 90.0
"""Seconds that devices have to refuse a ledger that has forgotten what they have seen."""


def lost_and_restored(home: Path) -> dict[str, Any]:
    """All of it, with the same devices at work throughout; what was found."""
    world = World(home, size=SIZE, settings="{rounds = 2}", dropout=0.17)
    archive, early, late = home / "backup.tar", home / "early", home / "late"
    world.start()
    try:
        with world.fleet(DEVICES):
            world.wait(lambda: len(world.events("published")) >= 1, seconds=300.0)
            write_backup(world.site, archive)
            shutil.copytree(world.site.witness, early)
            versions = [(version, name) for version, name, _ in listed(world.site)]
            backed_up = _size(world)
            world.wait(lambda: len(world.events("round")) >= SEEN, seconds=300.0)
            world.kill()
            shutil.copytree(world.site.witness, late)
            spent = {"charged": _spent(world), "shown": spend_shown((late / WITNESS).read_bytes())}
            said = _restored(world, archive, late)
            same = [(version, name) for version, name, _ in listed(world.site)] == versions
            spent["restored"] = _spent(world)
            seconds = _next_round(world)
            latest = shutil.copytree(world.site.witness, home / "latest")
            _restored(world, archive, early)
            world.start()
            time.sleep(WATCHED)
            refused = not world.events("round")
            _restored(world, archive, latest)
            again = _next_round(world)
    finally:
        world.stop()
    return {
        "said": said,
        "backed_up": backed_up,
        "same_models": same,
        "spent": spent,
        "seconds": seconds,
        "fork_refused": refused,
        "seconds_again": again,
    }


def _restored(world: World, archive: Path, witness: Path) -> str:
    """The folder, lost and made again at the same place; what the command says."""
    world.kill()
    shutil.rmtree(world.site.folder)
    return read_backup(archive, world.site.folder, witnesses=[witness], without_witness=False)


def _next_round(world: World) -> float:
    """Serve; seconds until a round was released."""
    world.start()
    return world.wait(lambda: bool(world.events("round")), seconds=400.0)


def _size(world: World) -> int:
    with world.site.ledger(read_only=True) as ledger:
        return ledger.checkpoint().size


def _spent(world: World) -> float:
    with world.site.ledger(read_only=True) as ledger:
        return ledger.spent()
