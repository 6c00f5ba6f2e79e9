"""Versions: which code made a run, for the privacy card."""

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
    """Versions of Palate, its commit and its main dependencies, and one hash over all installed packages' versions."""
    found = {"python": platform.python_version()}
    for name in NAMED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    files = [file for folder in sys.path if Path(folder).is_dir() for file in Path(folder).glob("*.*-info")]
    found["environment"] = _environment(tuple((str(file), file.stat().st_mtime_ns) for file in files))
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


@lru_cache(maxsize=1)
def _environment(_files: tuple[tuple[str, int], ...]) -> str:
    """The hash of all installed packages' versions; computed again when a metadata file has changed."""
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
