"""The notebooks of docs/notebooks: every cell runs, in the order of its page and in one namespace, as in a kernel."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

MADE = ("news", "music")
WHOLE = ("films", "shop")
"""Notebooks that train on a whole data set."""
NAMES = (*MADE, *WHOLE)


def cells(pages: dict[str, Any], name: str) -> list[Any]:
    return pages[f"docs/notebooks/{name}.md"].blocks("python")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MADE, *(pytest.param(name, marks=pytest.mark.soak) for name in WHOLE)])
def test_every_cell_runs_and_shows_itself(name: str, pages: dict[str, Any], desk: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in cells(pages, name):
        tree = ast.parse(block.text)
        where = f"{block.page.name}:{block.line}"
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), namespace)  # noqa: S102 # the documentation's own code
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), where, "eval"), namespace)  # noqa: S307 # the same
            if hasattr(shown, "_repr_html_"):
                assert shown._repr_html_()


def test_they_are_notebooks_to_jupyter(pages: dict[str, Any], root: Path, tmp_path: Path) -> None:
    import runpy

    convert = runpy.run_path(str(root / "docs" / "notebooks" / "to_ipynb.py"))["convert"]
    assert {path.stem for path in (root / "docs" / "notebooks").glob("*.md")} == {*NAMES}
    for name in NAMES:
        made = convert(root / "docs" / "notebooks" / f"{name}.md", tmp_path)
        notebook = nbformat.read(made, as_version=4)
        nbformat.validate(notebook)
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        assert code == [block.text.strip() for block in cells(pages, name)]
        said = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
        assert said[0].startswith("# ")
        assert any("**The data is " in text for text in said)


def test_without_its_package_the_conversion_says_in_a_line_what_to_install(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(root / "docs" / "notebooks" / "to_ipynb.py"), str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "to_ipynb.py needs nbformat: pip install 'palate[notebook]'\n")
    assert not (tmp_path / "made").exists()
