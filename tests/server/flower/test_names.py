"""Of Flower only its public names are known outside of one folder, and few others in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from palate_core.errors import InputError
from palate_server.flower import control

ROOT = Path(__file__).parents[3]
PUBLIC = ("flwr.app", "flwr.serverapp", "flwr.clientapp")
OURS = ROOT / "server" / "palate_server" / "flower"
MOST = 20


def private_names(file: Path) -> Iterator[str]:
    """The names of Flower's that a file imports, but for public ones; in our folder those of its insides, too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] == "flwr")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            if node.module not in PUBLIC:
                yield from (f"{node.module}.{each.name}" for each in node.names)
        elif file.is_relative_to(OURS):
            if isinstance(node, ast.Attribute) and node.attr[0] == "_" != node.attr[1]:
                if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                    yield node.attr
            elif isinstance(node, ast.Subscript) and "__dict__" in ast.unparse(node.value):
                yield ast.literal_eval(node.slice)


def test_at_most_twenty_names_of_flowers_insides_are_known_and_all_of_them_in_one_folder() -> None:
    files = [file for root in ("server", "client", "common") for file in sorted((ROOT / root).rglob("*.py"))]
    found = {name: file for file in files if "flwr" in file.read_text() for name in private_names(file)}
    assert 10 < len(found) <= MOST, sorted(found)
    assert {file.parent for file in found.values()} == {OURS}


def test_a_known_version_is_installed_and_another_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loudly: read `control.py`, `node.py` and `superlink.py` against a new version, try them, then raise KNOWN."""
    control.check_version()
    assert version("flwr").startswith(control.KNOWN)
    monkeypatch.setattr(control, "version", lambda name: "1.43.0")
    with pytest.raises(InputError, match=r"Flower must be 1\.41\.x or 1\.42\.x, .* got 1\.43\.0"):
        control.check_version()
