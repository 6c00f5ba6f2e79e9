"""Versions: which code made a run, for the card."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

NAMED = ("palate", "numpy", "cryptography", "flwr", "dp-accounting")


def versions() -> dict[str, str]:
    """Palate's version and commit, its main dependencies, and one hash over every installed package's version."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    told = [each for place in sys.path if Path(place).is_dir() for each in Path(place).glob("*.*-info")]
    found["environment"] = _environment(tuple((str(each), each.stat().st_mtime_ns) for each in told))
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


@lru_cache(maxsize=1)
def _environment(_told: tuple[tuple[str, int], ...]) -> str:
    """The hash, worked out again where what packages tell of themselves has come, gone or changed."""
    read = (each.metadata for each in distributions())
    installed = sorted({f"{each['Name']}=={each['Version']}" for each in read})
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


def _commit() -> str | None:
    """The commit of a source checkout, marked where files differ from it; None for an installed package."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(  # noqa: S603 # a constant command
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 # from PATH
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
