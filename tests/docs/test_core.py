"""docs/core.md lists the core as it is: every file, its lines of code, and how many there may be."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

MOST = {"claim": 2600, "log": 1000, "browser": 4300}
"""Lines of code that a reader is asked to read."""
ROW = re.compile(r"^\| (?:\d+ \| )?\[`([\w/]+\.(?:py|ts))`\]\([^)]*\) \| (\d+) \|", re.MULTILINE)
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source: str) -> int:
    """Lines of Python without blank ones, comments and docstrings."""
    texts = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    used = {line for each in tokens if each.type not in LAYOUT for line in range(each.start[0], each.end[0] + 1)}
    return len(used - texts)


def test_the_core_is_as_large_as_its_page_says(root: Path) -> None:
    text = (root / "docs" / "core.md").read_text(encoding="utf-8")
    listed = {name: int(lines) for name, lines in ROW.findall(text)}
    core, browser = root / "common" / "palate_core", root / "client" / "web" / "src"
    files = {str(each.relative_to(core)): each for each in core.rglob("*.py") if each.name != "__init__.py"}
    found = {name: code_lines(path.read_text(encoding="utf-8")) for name, path in files.items()}
    for name in listed:
        if name.endswith(".ts"):
            lines = (browser / name).read_text(encoding="utf-8").split("\n")
            found[name] = sum(not re.match(r"\s*(//.*|\*.*|/\*.*|)$", line) for line in lines)
    assert listed == found
    sums = dict.fromkeys(MOST, 0)
    for name, lines in found.items():
        sums["browser" if name.endswith(".ts") else "log" if name.startswith("log/") else "claim"] += lines
    assert all(sums[tier] <= most for tier, most in MOST.items()), sums
    assert all(f"{each:,} " in text for each in sums.values())
