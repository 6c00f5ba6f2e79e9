"""Who imports whom: the layers, no circle, the light device core, and complete `__all__`s."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "palate_core": ROOT / "common",
    "palate_common": ROOT / "common",
    "palate_torch": ROOT / "common",
    "palate_client": ROOT / "client",
    "palate_node": ROOT / "client",
    "palate": ROOT / "simulations",
    "palate_server": ROOT / "server",
    "palate_sim": ROOT / "simulations",
    "palate_audit": ROOT / "simulations",
    "palate_sandbox": ROOT / "simulations",
    "palate_cli": ROOT / "simulations",
}
HEAVY = ("flwr", "torch", "scipy", "pandas", "sklearn", "implicit", "plotly", "rich", "typer", "dp_accounting", "ray")

LAZY = {
    "palate_cli": "a command loads what it runs when it runs: help and completion answer at once",
    "palate_client": "an app that opens a store in order to track waits for no rounds, messages and rankings",
    "palate_common.system": "a system has fcntl and resource, or msvcrt",
}
"""Package or module -> why its functions import what would be light enough for the top of the module."""


class Import(NamedTuple):
    """One imported name."""

    target: str
    """A module of Palate, or whatever else is imported, by its full name."""
    late: bool
    """Whether it stands inside a function."""
    typing: bool
    """Whether it is for type checkers alone."""


@cache
def product() -> dict[str, tuple[Import, ...]]:
    """Every module of the product, and what it imports anywhere."""
    files = {
        ".".join(part for part in file.relative_to(root).with_suffix("").parts if part != "__init__"): file
        for name, root in PACKAGES.items()
        for file in sorted((root / name).rglob("*.py"))
    }

    def found(node: ast.AST, *, late: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, late, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, "imports are absolute"
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    yield Import(whole if whole in files else child.module or "", late, typing)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from found(child, late=late or function, typing=typing or checking)

    return {name: tuple(found(ast.parse(file.read_text()), late=False, typing=False)) for name, file in files.items()}


@cache
def loaded(name: str) -> frozenset[str]:
    """All that importing a module imports, packages above it and itself included, without any call."""
    modules, seen, left = product(), set[str](), [name]
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            if each in modules:
                left += [".".join(each.split(".")[:-1])] if "." in each else []
                left += [found.target for found in modules[each] if not found.late and not found.typing]
    return frozenset(seen)


def third_party(names: frozenset[str]) -> set[str]:
    """The packages among them that are neither Palate's nor Python's."""
    return {name.split(".")[0] for name in names} - set(PACKAGES) - set(sys.stdlib_module_names)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """At the top, inside a function or for type checkers alone: what can't be read from the bottom up is a circle."""
    modules = product()
    place = {name: number for number, name in enumerate(modules)}
    pairs = [(place[name], place[found.target]) for name in modules for found in modules[name] if found.target in place]
    assert not [name for name in modules if any(found.target == name for found in modules[name])]
    rows, columns = zip(*pairs, strict=True)
    graph = coo_array(([1] * len(pairs), (rows, columns)), shape=(len(modules), len(modules)))
    _, component = connected_components(graph.tocsr(), connection="strong")
    together: dict[int, set[str]] = {}
    for name in modules:
        together.setdefault(int(component[place[name]]), set()).add(name)
    assert [each for each in together.values() if len(each) > 1] == []


def test_a_function_imports_only_what_its_module_does_without() -> None:
    """A package that isn't loaded otherwise, unless `LAZY` has a reason; it hides nothing, and no circle."""
    needed = set()
    for name, imports in product().items():
        for found in imports:
            if found.late and not third_party(loaded(found.target)) - third_party(loaded(name)):
                reasons = [part for part in LAZY if name == part or name.startswith(f"{part}.")]
                assert reasons, f"{name} may import {found.target} at its top"
                needed |= set(reasons)
    assert needed == set(LAZY)


def modules(*packages: str) -> list[str]:
    """Every module of these packages."""
    found = []
    for package in packages:
        for file in sorted((PACKAGES[package] / package).rglob("*.py")):
            parts = file.relative_to(PACKAGES[package]).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            found.append(name)
    return found


def test_the_import_contracts_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


def test_the_core_imports_what_its_readers_know() -> None:
    """A contract can forbid a package, and not allow three alone."""
    allowed = {*sys.stdlib_module_names, "palate_core", "numpy", "cryptography", "pydantic"}
    for file in (PACKAGES["palate_core"] / "palate_core").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
                assert {name.split(".")[0] for name in names} <= allowed, file


def test_the_device_core_loads_nothing_heavy() -> None:
    names = modules("palate_core", "palate_common", "palate_client")
    assert {"palate_core.accounting", "palate_client.rounds.contribution"} <= set(names)
    code = f"import sys, {', '.join(names)}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_server_needs_nothing_of_the_simulations(tmp_path: Path) -> None:
    """As in the image, which installs `palate[server]`: it makes its folder, signs cards, audits ledgers. A process of
    its own: a module that is loaded needs nothing any more."""
    (tmp_path / "items").write_text("a\nb\n")
    absent = ("pandas", "pyarrow", "implicit", "plotly", "jinja2", "sklearn", "torch", "ray")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
import palate_sim.card.card, palate_cli.commands.serve.running
from palate_cli.cli import run
init = ["serve", "init", "site", "--population", "p", "--items", "items"]
audit = run(["audit", "ledger", "none"])
sys.exit(run([*init, "--features", "items"]) << 6 | run(["simulate"]) << 4 | audit << 2 | run(init))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    needed = 2 * "palate: this needs pandas: pip install 'palate[simulations]' (620 MB on disk)\n"
    assert done.stderr == "palate: `DIR` must be a run folder, got none\n" + needed
    assert done.returncode == 0b10101000, "the two that need them say so, and the others do without"


def test_flower_is_imported_in_one_place_a_side() -> None:
    for package in ("palate_core", "palate_common", "palate_client", "palate_server"):
        for file in (PACKAGES[package] / package).rglob("*.py"):
            imported = {
                (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
                for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            }
            place = file.relative_to(PACKAGES[package])
            if any(name == "flwr" or name.startswith("flwr.") for name in imported):
                assert place.parts[:2] in (("palate_client", "flower.py"), ("palate_server", "flower")), place


def test_a_class_name_is_given_once() -> None:
    """Over all packages: a name in a message, a log or a review means one class. Private ones are their module's."""
    found: dict[str, list[str]] = {}
    for package, root in PACKAGES.items():
        for file in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def inits() -> list[str]:
    """Every package and subpackage."""
    files = [
        file.parent.relative_to(root).parts
        for name, root in PACKAGES.items()
        for file in sorted((root / name).rglob("__init__.py"))
    ]
    return [".".join(parts) for parts in files]


@pytest.mark.parametrize("name", inits())
def test_a_packages_all_is_complete(name: str) -> None:
    """What `__init__` takes from its own modules is what it exports, and all of it is there."""
    root = PACKAGES[name.split(".")[0]]
    tree = ast.parse((root.joinpath(*name.split(".")) / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
        if (node.module or "").startswith(f"{name}.") and not (alias.asname or alias.name).startswith("_")
    }
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert len(exported) == len(set(exported))
    assert imported | defined <= set(exported)
    assert all(hasattr(module, export) for export in exported)
