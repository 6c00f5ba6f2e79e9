"""The rooms that are mutated: everything that the proof of privacy hangs on. Imports nothing of Palate.

A room is a folder, or some files of one: of `algorithms/` and `log/` those that decide what is clipped, what is
charged, and what a signature or an entry of a ledger says.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ALGORITHMS = (
    "base",
    "analytics",
    "popularity",
    "event_mf",
    "als/algorithm",
    "als/pairs",
    "als/plan",
    "als/vote",
    "sgd/algorithm",
    "parts/links",
)
LOG = ("canonical", "consistency", "entries", "merkle", "signing")
ROOMS: dict[str, tuple[str, ...]] = {
    "core: noise": ("common/palate_core/noise/*.py",),
    "core: plan and accounting": ("common/palate_core/*.py",),
    "core: masks": ("common/palate_core/masks/*.py",),
    "core: device": ("common/palate_core/device/*.py",),
    "core: log": tuple(f"common/palate_core/log/{name}.py" for name in LOG),
    "contributions": ("common/palate_common/mechanism/*.py", "common/palate_common/rounds/*.py"),
    "accounting of several": ("common/palate_common/accounting/*.py", "simulations/palate_sim/accounting.py"),
    "blame": ("common/palate_common/secagg/*.py",),
    "layouts and clips of algorithms": tuple(f"common/palate_common/algorithms/{name}.py" for name in ALGORITHMS),
    "device: rounds": ("client/palate_client/rounds/*.py",),
    "device: ledger": ("client/palate_client/ledger/*.py",),
    "server: rounds": ("server/palate_server/rounds/*.py",),
    "server: ledger": ("server/palate_server/ledger/*.py",),
    "server: masks": ("server/palate_server/secagg/*.py",),
    "server: surveys": ("server/palate_server/surveys/*.py",),
}
"""Room -> the files, from the root of the checkout."""


def files(room: str) -> list[Path]:
    """The files of a room, from the root of the checkout, in order."""
    return sorted(path.relative_to(ROOT) for pattern in ROOMS[room] for path in ROOT.glob(pattern))


def module_of(file: Path) -> str:
    """`palate_common.mechanism.clipping` of `common/palate_common/mechanism/clipping.py`."""
    parts = file.with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def file_of(module: str) -> Path:
    """The other way round."""
    for room in ROOMS:
        for file in files(room):
            if module_of(file) == module:
                return file
    sys.exit(f"mutation: there is no module {module} in the rooms")
