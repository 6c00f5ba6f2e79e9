"""What an app's type checker says: mypy in strict mode, on an app and on its mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import palate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def errors(name: str, cache: Path) -> set[tuple[int, str]]:
    """Line and code of each error in a file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--config-file", "pyproject.toml"]
    done = subprocess.run([*command, str(HERE / name)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(rf"{name}:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count(": error: "), done.stdout
    return {(int(line), code) for line, code in found}


def test_an_app_is_clean_and_its_mistakes_are_found(tmp_path: Path) -> None:
    assert errors("app.py", tmp_path) == set()
    lines = (HERE / "misuse.py").read_text().splitlines()
    marked = {(number, line.partition("# error: ")[2]) for number, line in enumerate(lines, 1) if "  # error: " in line}
    assert errors("misuse.py", tmp_path) == marked
    assert len(marked) == 25


def test_the_app_uses_all_that_the_facade_and_a_device_offer() -> None:
    """What is public and not typed here, nobody has looked at as an app would."""
    text = (HERE / "app.py").read_text()
    attributes = {"app", "weighting", "store", "service"}  # told in the constructor's place
    methods = {name for name in dir(palate.Device) if not name.startswith("_")}
    assert {name for name in methods if f"device.{name}" not in text} <= attributes
    assert [name for name in palate.__all__ if f"palate.{name}" not in text] == []
