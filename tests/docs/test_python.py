"""Every Python block of the documentation is executed, in a folder that holds a small `my.csv`."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_python_blocks(python_block: Any, desk: Path) -> None:
    text, name = python_block.text, f"{python_block.page.name}:{python_block.line}"
    if text.startswith("# ") and text.partition("\n")[0].endswith(".py"):
        compile(text, name, "exec")  # a module: the commands of its page run it
    elif ">>>" in text:
        found = doctest.DocTestParser().get_doctest(text, {}, name, name, python_block.line)
        assert doctest.DocTestRunner(optionflags=OPTIONS).run(found).failed == 0
    else:
        exec(compile(text, name, "exec"), {"__name__": "__main__"})  # noqa: S102 # the documentation's own code
