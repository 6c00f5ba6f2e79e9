"""What is installed: all that is imported is declared, and a device's install says how to get the command line."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from palate_cli.__main__ import main
from palate_cli.cli import EXTRAS as MISSING

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "common/palate_core": (),
    "common/palate_common": ("server",),  # the second accountant, when it is asked for
    "common/palate_torch": ("torch",),
    "client/palate_client": ("server", "keyring", "delivery"),  # Flower's adapter
    "client/palate_node": ("node",),
    "simulations/palate": ("simulations", "text"),  # runs, on first use
    "server/palate_server": ("server",),
    "simulations/palate_sim": ("simulations", "text", "torch", "ray", "notebook"),
    "simulations/palate_audit": ("simulations", "torch"),
    "simulations/palate_sandbox": ("simulations", "demo-data"),
    "simulations/palate_cli": ("simulations",),
}
APART = {"docs"}
"""Extras that the tests' environment lacks: `make docs` has an environment of its own."""
PARTS = {
    "pydantic-core": "pydantic",
    "ray": "flwr",
    "mkdocstrings-handlers": "mkdocstrings-python",
}
"""What comes with another distribution."""


def declared(*extras: str) -> set[str]:
    """The requirements of some extras, by name."""
    found = list(PROJECT["dependencies"])
    for extra in extras:
        found += PROJECT["optional-dependencies"][extra]
    names = {re.match(r"[\w-]+", each)[0].lower() for each in found}
    return names | (declared("server") if "palate" in names and "simulations" in extras else set())


def whole(extra: str) -> set[str]:
    """An extra, and those that it brings with it."""
    lines = PROJECT["optional-dependencies"].get(extra, [])
    beside = {name for line in lines for group in re.findall(r"^palate\[(.*)\]", line) for name in group.split(",")}
    return {extra, *(name for each in beside for name in whole(each))} - {""}


def imported(folder: Path) -> Iterator[str]:
    """The packages that a package's modules import, anywhere in them."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", EXTRAS)
def test_what_is_imported_is_declared(package: str) -> None:
    ours = {Path(each).name for each in EXTRAS} | set(sys.stdlib_module_names)
    names = set(imported(ROOT / package)) - ours
    brought = packages_distributions()
    carriers = {name: {each.lower().replace("_", "-") for each in brought.get(name, [name])} for name in names}
    known = declared(*EXTRAS[package])
    missing = {name for name, dists in carriers.items() if not known & {PARTS.get(each, each) for each in dists}}
    assert missing == set()


def test_a_missing_package_names_an_extra_that_brings_it() -> None:
    brought = packages_distributions()
    for name, extra in MISSING.items():
        wanted = {each.lower().replace("_", "-") for each in brought.get(name, [name])}
        assert wanted & declared(extra) or (name, extra) == ("ray", "ray"), name  # by way of `flwr[simulation]`


@pytest.mark.parametrize("extra", ["dev", "server"])
def test_every_requirement_is_locked_with_hashes(extra: str) -> None:
    """`make lock` was run after the last change of a requirement."""
    lock = (ROOT / "requirements" / f"{extra}.txt").read_text()
    pins = re.split(r"\n(?=\w)", lock)[1:]
    assert all("--hash=sha256:" in pin for pin in pins)
    locked = {pin.partition("==")[0].lower() for pin in pins}
    chosen = declared(extra) if extra == "server" else declared(*PROJECT["optional-dependencies"].keys() - APART)
    assert chosen - locked - {"palate", "torch"} == set()


@pytest.mark.parametrize("words", [["--help"], ["device", "report", "store"]])
def test_without_its_packages_the_command_says_in_one_line_which_extra_brings_them(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "palate_cli.cli", raising=False)
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.setattr(sys, "argv", ["palate", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == "palate: the command line needs click: pip install 'palate[simulations]' (620 MB on disk)\n"
    )


def test_a_release_is_made_by_actions_that_nobody_can_move() -> None:
    """A tag or a branch of an action is its owner's to move: whoever gets it would publish in our name."""
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses:\s*(.*)", file.read_text(encoding="utf-8"))
        assert used
        assert [each for each in used if not re.match(r"[\w./-]+@[0-9a-f]{40} # v\d+[.]\d+[.]\d+", each)] == [], (
            file.name
        )


@pytest.fixture(scope="module")
def release() -> Any:
    """What `make release-check` runs."""
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["release"] = made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_each_extra_is_tried_alone_with_what_it_brings(release: Any) -> None:
    carriers = packages_distributions()
    for each in release.TRIES:
        brought = declared(*whole(each.extra))
        for module in {name.strip().partition(".")[0] for name in each.loads.split(",")}:
            names = {name.lower().replace("_", "-") for name in carriers.get(module, [module])}
            known = {PARTS.get(name, name) for name in names} & brought
            assert known or module.startswith("palate_"), f"{each.extra or 'a device'} doesn't bring {module}"


def test_a_tag_that_changelog_or_chart_know_nothing_of_is_refused(release: Any) -> None:
    chart = 'version: 0.2.0\nappVersion: "0.2.0"\n'
    assert release.told_version(["palate-0.2.0-py3-none-any.whl", "palate-0.2.0.tar.gz"]) == "0.2.0"
    release.check_told("0.2.0", "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-28\n", chart)
    release.check_told("0.2.1.dev3+g0123456789", "## [Unreleased]\n", chart)
    with pytest.raises(SystemExit, match=r"got no line that begins with version: 0.2.0"):
        release.check_told("0.2.0", "## [0.2.0]\n", chart.replace("version: 0.2.0", "version: 0.2.01"))
    with pytest.raises(SystemExit, match=r"got no line that begins with ## \[0.2.1\], version: 0.2.1, appVersion"):
        release.check_told("0.2.1", "## [0.2.0]\n\nnot ## [0.2.1]\n", chart)


def test_extras_are_tried_on_the_logs_and_by_the_steps_of_the_pages(release: Any, tmp_path: Path) -> None:
    release.furnish(tmp_path)
    heads = {f"{each.relative_to(tmp_path)}": each.read_text().splitlines()[0] for each in tmp_path.rglob("*.csv")}
    own, rated = "CustomerID,StockCode,Quantity,InvoiceDate", "user,item,rating"
    assert heads == {"my.csv": own, "ratings.csv": rated}
    commands, pages = release._tests("test_commands"), release._tests("conftest").PAGES
    steps = [step for step in commands.steps_of(pages["docs/tutorials/serve.md"]) if step.shown]
    assert not all(step.command.startswith(commands.NOT_RUN) for step in steps)
    assert commands.is_printed(steps[0].shown[0], steps[0].shown[0])
