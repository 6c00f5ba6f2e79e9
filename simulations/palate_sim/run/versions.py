"""Versions: which code made a run, for the card."""

from __future__ import annotations

import hashlib
import platform
import subprocess
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
    installed = sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()})
    found["environment"] = hashlib.sha256("\n".join(installed).encode()).hexdigest()
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


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
