"""What an app's type checker says: mypy in strict mode, on an app and on its mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import palate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def errors(*names: str) -> dict[str, set[tuple[int, str]]]:
    """Line and code of each error in some files. The cache is that of `make types`, which knows what they import."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "pyproject.toml"]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in names)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found = {name: re.findall(rf"{name}:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE) for name in names}
    assert sum(map(len, found.values())) == done.stdout.count(": error: "), done.stdout
    return {name: {(int(line), code) for line, code in each} for name, each in found.items()}


def test_an_app_is_clean_and_its_mistakes_are_found() -> None:
    found = errors("app.py", "misuse.py")
    assert found["app.py"] == set()
    lines = (HERE / "misuse.py").read_text().splitlines()
    marked = {(number, line.partition("# error: ")[2]) for number, line in enumerate(lines, 1) if "  # error: " in line}
    assert found["misuse.py"] == marked
    assert len(marked) == 25


def test_the_app_uses_all_that_the_facade_and_a_device_offer() -> None:
    """What is public and not typed here, nobody has looked at as an app would."""
    text = (HERE / "app.py").read_text()
    attributes = {"app", "weighting", "store", "service"}  # told in the constructor's place
    methods = {name for name in dir(palate.Device) if not name.startswith("_")}
    assert {name for name in methods if f"device.{name}" not in text} <= attributes
    assert [name for name in palate.__all__ if f"palate.{name}" not in text] == []
