"""Every command of the documentation is run, in the order of its page, in a folder that holds a small `my.csv`.

A command that ends with ` &` is started, waited for until it prints its last line, and ended after the page's last one.
A line of shown output must be printed, numbers aside, because the noise is fresh; `...` stands for anything. An error
that a page shows must come, and after `$ echo $?` the page's exit code.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_common.algorithms import registry

NOT_RUN = (
    "git clone ",
    "cd ",
    "pip install ",
    "export ",
    "source ",
    "PYTHONPATH=simulations .venv/bin/python ",
    "make test",
    "make bench",
    "sha256sum --check SHA256SUMS",
    "gh attestation ",
)
"""Commands that set up a machine, are about a release's files, which only a release has, or are the very tests here."""
LONG = {
    "docs/audit.md": ("palate audit mechanism",),
    "docs/secure-aggregation.md": ("palate simulate",),
    "docs/tutorials/serve.md": (
        "palate serve run",
        "python docs/examples/device_fleet.py",
        "palate serve status",
        "palate device enroll",
        "palate device sync",
        "palate device recommend",
        "palate device report",
    ),
}
"""Commands of more than ten seconds, which run in `make soak`; what they do has quicker tests of its own."""
NUMBER = re.compile(r"\d[\d,.]*(e-?\d+)?")


@dataclass
class Step:
    """A command and the output that the page shows for it."""

    command: str
    shown: list[str] = field(default_factory=list)


def steps_of(session: Any) -> Iterator[Step]:
    for block in session.blocks("console"):
        step: Step | None = None
        for line in block.text.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:])
            else:
                assert step is not None, f"{session.name}: a console block must begin with a command"
                step.shown.append(line)
        if step is not None:
            yield step


def plain(line: str) -> str:
    """A line without its numbers, its spacing and its rules."""
    return " ".join(NUMBER.sub("#", line).split())


def is_printed(line: str, output: str) -> bool:
    """Whether a line that a page shows is in the output."""
    pattern = ".*".join(re.escape(plain(part)) for part in line.split("..."))
    return any(re.fullmatch(pattern, plain(printed)) for printed in output.splitlines())


def palate(words: list[str]) -> tuple[int, str]:
    """`palate ...` in this process: its exit code and all it prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = run(words)
    return code, out.getvalue()


@cache
def demo(command: str) -> tuple[int, str]:
    """`make demo`, once for all pages that show it."""
    return palate(shlex.split(command)[1:])


@pytest.fixture
def site(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The desk as a place where packages, and the algorithms they register, are found."""
    monkeypatch.syspath_prepend(desk)
    registry._entry_points.cache_clear()
    yield desk
    registry._entry_points.cache_clear()


def install(session: Any, desk: Path) -> None:
    """Put the modules that a page spells out on the desk, with the metadata that `pip install` would write."""
    files = [block.text for block in session.blocks("python") if block.text.startswith("# ")]
    for text in files:
        (desk / text.partition("\n")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    for block in session.blocks("toml"):
        if block.text.startswith("# pyproject.toml"):
            project = tomllib.loads(block.text)["project"]
            name, version = project["name"].replace("-", "_"), project["version"]
            folder = desk / f"{name}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
            groups = [
                "\n".join((f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())))
                for group, entries in project["entry-points"].items()
            ]
            (folder / "entry_points.txt").write_text("\n".join(groups) + "\n")


def demo_command(root: Path) -> str:
    """The `palate` line of the recipe of `make demo`."""
    recipe = re.search(r"^demo:.*\n\t\$\(BIN\)/(palate .*)$", (root / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None, "`make demo` must run palate"
    return recipe[1]


@contextmanager
def started(step: Step, folder: Path) -> Iterator[None]:
    """A `palate` command in a process of its own, from its last shown line on."""
    words = [sys.executable, "-m", "palate_cli", *shlex.split(step.command.removesuffix(" &"))[1:]]
    log = folder / ".background.log"
    with log.open("wb") as output, subprocess.Popen(words, cwd=folder, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + 120.0
            while not is_printed(step.shown[-1], log.read_text()):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60.0)


def test_commands(session: Any, site: Path, root: Path) -> None:
    install(session, site)
    with ExitStack() as background:
        _walk(session, site, root, background, (*NOT_RUN, *LONG.get(session.name, ())))


@pytest.mark.soak
@pytest.mark.parametrize("name", LONG)
def test_commands_with_the_long_ones(name: str, pages: dict[str, Any], site: Path, root: Path) -> None:
    assert all(any(step.command.startswith(long) for step in steps_of(pages[name])) for long in LONG[name])
    with ExitStack() as background:
        _walk(pages[name], site, root, background, NOT_RUN)


def _walk(session: Any, site: Path, root: Path, background: ExitStack, left_out: tuple[str, ...]) -> None:
    """Each command of a page in its turn."""
    code = 0
    for step in steps_of(session):
        if step.command.startswith(left_out) or (step.command == "make demo" and not step.shown):
            continue
        if step.command.endswith(" &"):
            background.enter_context(started(step, site))
            continue
        if step.command == "echo $?":
            assert step.shown == [str(code)], f"{session.name}: the exit code was {code}"
            continue
        words = shlex.split(step.command)
        if step.command == "make demo":
            code, output = demo(demo_command(root))
        elif words[0] == "palate":
            code, output = palate(words[1:])
        else:
            done = subprocess.run(words, cwd=site, capture_output=True, text=True, check=False)
            code, output = done.returncode, done.stdout + done.stderr
        refused = any(line.startswith("palate: ") for line in step.shown)
        assert (code != 0) == refused, f"{session.name}: `{step.command}` gave {code}\n{output}"
        missing = [line for line in step.shown if not is_printed(line, output)]
        assert not missing, f"{session.name}: `{step.command}` prints no line like {missing}, but\n{output}"


@pytest.mark.parametrize(
    ("line", "output", "found"),
    [
        ("done · 1.2 s", "done · 11.3 s", True),
        ("EASE   0.418  0.354 – 0.485", "EASE 0.3  0.1 – 0.4", True),
        ("EASE 0.418", "iALS 0.418", False),
        ("...", "anything", True),
        ("report: ...", "report: runs/x", True),
    ],
)
def test_lines_are_compared_without_their_numbers(line: str, output: str, found: bool) -> None:
    assert is_printed(line, output) is found


def test_make_targets_exist(root: Path, pages: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for page in pages.values():
        for line in page.text.splitlines():
            named = re.findall(r"`make ([a-z-]+)`", line) + re.findall(r"^\$ make ([a-z-]+)", line)
            assert set(named) <= targets, f"{page.name}: {line}"
    listed = re.findall(r"^\| `make ([a-z-]+)`", pages["CONTRIBUTING.md"].text, re.MULTILINE)
    assert set(listed) == targets


def test_extras_exist(root: Path, pages: dict[str, Any]) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    for page in pages.values():
        for extras in re.findall(r"(?:palate|\.)\[([a-z,-]+)\]", page.text):
            assert set(extras.split(",")) <= set(known), f"{page.name}: {extras}"
    page = pages["docs/install.md"]
    rows = list(page.rows(page.text))[1:]
    assert [row[0].strip("`") for row in rows] == ["(none)", *known]
    for extra, brings in ((row[0].strip("`"), row[1].lower()) for row in rows):
        for requirement in project["dependencies"] if extra == "(none)" else known[extra]:
            name = re.match(r"[A-Za-z0-9-]+", requirement)[0]
            if name not in ("palate", "flwr", "click", "pandas-stubs", "pytest-xdist"):
                assert name in brings, f"docs/install.md: the extra {extra} brings {name}"
