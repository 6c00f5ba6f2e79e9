"""Provenance: which source a run was loaded from, so that an audit can tell whether it has the same.

    >>> {"palate_common.mechanism.clipping", "palate_client.device"} <= set(run_sources())
    True

Nobody keeps a list of modules: every one counts that lies in a package named `palate` or `palate_*`, whatever process
loads it, and every package that registers an algorithm. A run's terms name the hashes, and the ledger keeps the terms.
They cover the files on disk of the machine that opened the run, at that time. They say nothing about the code on other
people's devices.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

PREFIX = "palate"
AUDITORS = ("palate_audit",)
"""Packages that only look at a run: an auditor's may be newer than the run's, or somebody else's."""


def run_sources() -> dict[str, str]:
    """SHA-256 of the source of each module that a run, a device or a server may load, by name."""
    return {name: digest for name, (_, digest) in _of(_packages()).items() if not auditors(name)}


def sources_of(*packages: str) -> dict[str, str]:
    """The same of each module of some packages."""
    return {name: digest for name, (_, digest) in _of(packages).items()}


def auditors(name: str) -> bool:
    """Whether a module only looks at runs."""
    return name.partition(".")[0] in AUDITORS


def loaded_from_elsewhere() -> list[str]:
    """Modules of this process, in the same packages, that were not loaded from the files whose hashes are taken."""
    known = {name: path for name, (path, _) in _of(_packages()).items()}
    tops = {name.partition(".")[0] for name in known}
    found = []
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in tops:
            file = getattr(module, "__file__", None)
            if file is None or name not in known or not Path(file).samefile(known[name]):
                found.append(name)
    return found


def _packages() -> tuple[str, ...]:
    """Every top-level package of Palate's that can be imported, and those that register an algorithm."""
    ours = {each.name for each in pkgutil.iter_modules() if each.name.partition("_")[0] == PREFIX}
    others = {point.module.partition(".")[0] for point in entry_points(group="palate.algorithms")}
    return tuple(sorted(ours | others))


@cache
def _of(packages: tuple[str, ...]) -> dict[str, tuple[Path, str]]:
    """Each module's name, with its file and the hash of it, read once a process."""
    return {
        name: (file, hashlib.sha256(file.read_bytes()).hexdigest())
        for package in packages
        for name, file in _modules(package)
    }


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    """All modules below a package, whether anybody loads them or not; a module that is none has itself."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        yield package, Path(str(spec.origin))
    for place in spec.submodule_search_locations or ():
        for file in sorted(Path(place).rglob("*.py")):
            parts = file.relative_to(place).with_suffix("").parts
            yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))), file
