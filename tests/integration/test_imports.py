"""Who imports whom: the layers, the light device core, and complete `__all__`s."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "palate_common": ROOT / "common",
    "palate_torch": ROOT / "common",
    "palate_client": ROOT / "client",
    "palate": ROOT / "client",
    "palate_server": ROOT / "server",
    "palate_sim": ROOT / "simulations",
    "palate_audit": ROOT / "simulations",
    "palate_cli": ROOT / "simulations",
}
HEAVY = ("flwr", "torch", "scipy", "pandas", "sklearn", "implicit", "plotly", "rich", "typer", "dp_accounting", "ray")


def modules(*packages: str) -> list[str]:
    """Every module of these packages that the device core may load: all but Flower's adapter."""
    found = []
    for package in packages:
        for file in sorted((PACKAGES[package] / package).rglob("*.py")):
            parts = file.relative_to(PACKAGES[package]).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            if name != "palate_client.flower":
                found.append(name)
    return found


def test_the_import_contracts_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"{len(contracts)} kept, 0 broken" in done.stdout


def test_the_device_core_loads_nothing_heavy() -> None:
    names = modules("palate_common", "palate_client")
    assert {"palate_common.mechanism.accounting", "palate_client.rounds.contribution"} <= set(names)
    code = f"import sys, {', '.join(names)}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_server_needs_nothing_of_the_simulations(tmp_path: Path) -> None:
    """As in the image, which installs `palate[server]`: it makes its folder, and signs cards. A process of its own: a
    module that is loaded needs nothing any more."""
    (tmp_path / "items").write_text("a\nb\n")
    absent = ("pandas", "pyarrow", "implicit", "plotly", "jinja2", "sklearn", "torch", "ray")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))
import palate_sim.card.card, palate_cli.commands.serve.running
from palate_cli.cli import run
init = ["serve", "init", "site", "--population", "p", "--items", "items"]
sys.exit(run([*init, "--features", "items"]) << 4 | run(["simulate"]) << 2 | run(init))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stderr == 2 * "palate: this needs pandas: pip install 'palate[simulations]'\n"
    assert done.returncode == 0b101000, "the two that need them say so, and the third does without"


def test_flower_is_imported_in_one_place_a_side() -> None:
    for package in ("palate_common", "palate_client", "palate_server"):
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
