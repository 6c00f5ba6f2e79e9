"""What the claim's code keeps it reads: state that nothing reads is a check that was meant, and isn't there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "common/palate_core",
    *(f"common/palate_common/{name}" for name in ("mechanism", "records", "rounds", "secagg")),
    *(f"client/palate_client/{name}" for name in ("ledger", "rounds")),
)


def kept(tree: ast.Module) -> Iterator[str]:
    """Private names that are set: of the module, and of objects."""
    for each in tree.body:
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AnnAssign) else []
        )
        yield from (one.id for one in targets if isinstance(one, ast.Name) and one.id.startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr.startswith("_"):
            yield node.attr
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.name.startswith("_")
            and not node.name.endswith("_")
        ):
            yield node.name


def read(tree: ast.Module) -> Iterator[str]:
    """Names that are read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr


def unused(source: str) -> set[str]:
    tree = ast.parse(source)
    validators = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.decorator_list}
    return {*kept(tree)} - {*read(tree)} - validators


def test_state_that_nothing_reads_is_found() -> None:
    assert unused("_forks = 0\ndef f() -> None:\n    global _forks\n    _forks += 1\n") == {"_forks"}
    assert unused("class A:\n    def __init__(self) -> None:\n        self._durable = True\n") == {"_durable"}


def test_private_state_of_the_claims_code_is_read() -> None:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 40
    found = {file.relative_to(ROOT).as_posix(): unused(file.read_text(encoding="utf-8")) for file in files}
    assert {name: names for name, names in found.items() if names} == {}
