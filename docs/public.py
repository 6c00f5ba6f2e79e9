"""The table of public names in docs/public.md, from the packages that export them.

    python docs/public.py

Writes what stands below the mark. Nothing is imported: names, their modules and their docstrings are read from the
sources. `tests/docs/test_public.py` compares the two.
"""

from __future__ import annotations

import ast
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "public.md"
BEGIN = "<!-- public: written by docs/public.py -->"
PACKAGES = {
    "palate": "an app, a notebook, a script",
    "palate_audit": "an audit of any mechanism",
    "palate_common.algorithms": "an algorithm of your own",
    "palate_torch": "a torch module of your own",
    "palate_sim": "runs and their results",
}
"""Whose `__all__` is public, and for whom."""
ROOTS = ("common", "client", "server", "simulations")


class Exported(NamedTuple):
    """A public name: where it is defined, by which name there, the first sentence of its docstring, and its group."""

    name: str
    module: str
    defined: str
    said: str
    group: str = ""


def exported(package: str) -> list[Exported]:
    """What a package's `__all__` names."""
    tree, found = _tree(package), dict[str, tuple[str, str]]()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("palate"):
            found |= {each.asname or each.name: (node.module, each.name) for each in node.names}
    found |= {name: (module, name) for name, module in _constant(tree, "_LATER", {}).items()}
    groups = _groups(package)
    return [
        Exported(name, *found[name], _said(*found[name]), groups.get(name, ""))
        for name in _constant(tree, "__all__", [])
    ]


def section() -> str:
    """What stands below the mark."""
    parts = []
    for package, whom in PACKAGES.items():
        parts.append(f"## `{package}`: {whom}")
        for group, names in groupby(exported(package), lambda each: each.group):
            rows = [f"| `{each.name}` | `{each.module}` | {each.said} |" for each in names]
            parts.append("\n".join([f"| {group or 'name'} | module | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _groups(package: str) -> dict[str, str]:
    """The group of each name: the comment above it in the list of `__all__`; nothing where there are none."""
    found, group = {}, ""
    for line in _source(package).partition("\n__all__ = [")[2].partition("\n]")[0].splitlines()[1:]:
        text = line.strip()
        group = text.removeprefix("# ") if text.startswith("# ") else group
        found[text.strip('",')] = group
    return found


def _said(module: str, name: str) -> str:
    """The first sentence about a name, empty if there is none."""
    body = _tree(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return _first(ast.get_docstring(node) or "")
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(each, ast.Name) and each.id == name for each in targets) and isinstance(after, ast.Expr):
            return _first(str(ast.literal_eval(after.value)))
    return ""


def _first(text: str) -> str:
    """The first line of a docstring, as a cell."""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


def _constant(tree: ast.Module, name: str, default: Any) -> Any:
    """The value that a module gives a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == [name]:
            return ast.literal_eval(node.value)
    return default


@cache
def _tree(module: str) -> ast.Module:
    """A module's source, parsed."""
    return ast.parse(_source(module))


def _source(module: str) -> str:
    """A module's source."""
    for root in ROOTS:
        path = ROOT.joinpath(root, *module.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.read_text(encoding="utf-8")
    raise LookupError(f"there is no module {module}")


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{before}{BEGIN}\n\n{section()}\n", encoding="utf-8")
