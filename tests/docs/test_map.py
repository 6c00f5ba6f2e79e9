"""The map of CONTRIBUTING.md is the tree: every room is on it, and none is so full that nobody finds anything."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

PACKAGES = (
    "common/palate_core",
    "common/palate_common",
    "common/palate_torch",
    "client/palate_client",
    "client/web/src",
    "server/palate_server",
    "simulations/palate_sim",
    "simulations/palate_audit",
    "simulations/palate_sandbox",
    "simulations/palate_cli",
    "simulations/palate",
)
MOST = 16
LISTS = {"metrics", "checks", "attacks", "mutants"}
"""Rooms that are lists by nature: a file more is an entry more."""


def rooms(package: Path) -> set[str]:
    """The folders right below a package."""
    return {each.name for each in package.iterdir() if each.is_dir() and not each.name.startswith("__")}


def mapped(root: Path) -> dict[str, set[str]]:
    """Package -> rooms, as the table of the map has them."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Where does this line go?")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    package = ""
    for cells in re.findall(r"^\| (.+?) \|", table, re.MULTILINE):
        names = re.findall(r"`([\w/]+)/`", cells)
        if cells.startswith("**"):
            package = names[0]
            found[package] = set()
        elif names:
            found[package] |= set(names)
    return found


def test_every_room_is_on_the_map(root: Path) -> None:
    found = mapped(root)
    assert set(PACKAGES) <= set(found)
    for package in PACKAGES:
        there = rooms(root / package) - {"sample_model", "starter_films"}
        if package == "common/palate_common":
            there -= {"presets"}
        assert found[package] == there, package


def test_no_room_is_crowded(root: Path) -> None:
    for package in PACKAGES:
        modules = [
            file for kind in ("*.py", "*.ts") for file in (root / package).rglob(kind) if file.stem != "__init__"
        ]
        for folder, own in Counter(file.parent for file in modules).items():
            assert folder.name in LISTS or own <= MOST, folder
