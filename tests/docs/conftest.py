"""What the tests of the documentation share: the pages, their code blocks, and a small log of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

WHOLE_SET = re.compile(r"simulate\(epsilon")
"""In blocks that train on a whole data set, which run in `make soak`; their commands train on it here."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Page
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """One page of markdown."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[Block]:
        found = []
        for match in FENCE.finditer(self.text):
            if match["language"] == language:
                line = self.text.count("\n", 0, match.start()) + 1
                found.append(Block(self, line, language, match["text"]))
        return found

    def prose(self) -> str:
        """The text without its fenced blocks."""
        return FENCE.sub("", self.text)

    def section(self, title: str) -> str:
        """What stands below a heading, up to the next one of its level or above."""
        heading = re.search(rf"^(#+) {re.escape(title)}$", self.text, re.MULTILINE)
        if heading is None:
            raise LookupError(f"{self.name} has no heading {title!r}")
        rest = self.text[heading.end() :]
        following = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
        return rest[: following.start()] if following else rest

    @staticmethod
    def rows(text: str) -> Iterator[list[str]]:
        """The cells of every row of every table in a text."""
        for line in text.splitlines():
            if line.startswith("|") and not set(line) <= set("|-: "):
                cells = line.strip().strip("|").replace(r"\|", "\0").split("|")
                yield [cell.strip().replace("\0", "|") for cell in cells]


def all_pages() -> list[Page]:
    """The pages at the root, and every page below docs."""
    paths = [
        ROOT / "README.md",
        ROOT / "README.zh.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "AGENTS.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [Page(path) for path in paths]


TRANSLATIONS = {"README.zh.md": "README.md", "docs/zh/first-run.md": "docs/tutorials/first-run.md"}
"""Translation -> original. Both have the same commands and code, which are run once; see `test_translations.py`."""
PAGES = {page.name: page for page in all_pages()}
PILOT = "docs/pilot.md"
"""Its commands need browsers, in which somebody acts: `test_pilot.py` runs them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that take `page`, `session` or `python_block` run for each of them."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES.values(), ids=list(PAGES))
    if "session" in metafunc.fixturenames:
        spoken = {
            name: page for name, page in PAGES.items() if page.blocks("console") and name not in (*TRANSLATIONS, PILOT)
        }
        metafunc.parametrize("session", spoken.values(), ids=list(spoken))
    if "python_block" in metafunc.fixturenames:
        left = (*TRANSLATIONS, *(name for name in PAGES if name.startswith("docs/notebooks/")))  # cells share names
        blocks = [block for page in PAGES.values() for block in page.blocks("python") if page.name not in left]
        named = [
            pytest.param(
                block,
                id=f"{block.page.name}:{block.line}",
                marks=[pytest.mark.soak] if WHOLE_SET.search(block.text) else [],
            )
            for block in blocks
        ]
        metafunc.parametrize("python_block", named)


@pytest.fixture(scope="session")
def write_log() -> Callable[..., None]:
    """Writes the small log to a path."""
    return _write_log


@pytest.fixture(scope="session")
def anchors() -> Callable[[str], set[str]]:
    """The anchors that the headings of a text get."""
    return _anchors


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def translations() -> dict[str, str]:
    """Translation -> original, by their paths in the repository."""
    return TRANSLATIONS


@pytest.fixture(scope="session")
def pages() -> dict[str, Page]:
    """Every page by its path in the repository."""
    return PAGES


def _anchors(text: str) -> set[str]:
    return {_slug(heading) for heading in HEADING.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))}


def _slug(heading: str) -> str:
    """The anchor that a heading gets."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def _write_log(path: Path, **sizes: int) -> None:
    """The small log, at a path."""
    path.write_text(_log(**sizes), encoding="utf-8")


@cache
def _log(*, n_users: int = 480, n_items: int = 70, seed: int = 5) -> str:
    """A log of one's own, with a shop's names of columns: three tastes, and popular items."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(4, n_items + 4)
    rows = ["CustomerID,StockCode,Quantity,InvoiceDate"]
    for user in range(n_users):
        taste = np.where(np.arange(n_items) % 3 == user % 3, 6.0, 1.0) * odds
        items = rng.choice(n_items, rng.integers(4, 16), replace=False, p=taste / taste.sum())
        for place, item in enumerate(items):
            day = 1 + (user + place) % 28
            rows.append(f"{user},{item:05d}A,{rng.integers(1, 9)},2024-02-{day:02d} 08:{place:02d}")
    return "\n".join(rows) + "\n"


@cache
def _ratings(*, n_users: int = 200, n_items: int = 30, seed: int = 5) -> str:
    """A log of ratings from 1 to 5, of two tastes."""
    rng = np.random.default_rng(seed)
    rows = ["user,item,rating"]
    for user in range(n_users):
        for item in rng.permutation(n_items)[:15]:
            liked = 4 if user % 2 == item % 2 else 2
            rows.append(f"u{user},i{item:02d},{int(np.clip(liked + rng.integers(-1, 2), 1, 5))}")
    return "\n".join(rows) + "\n"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with `my.csv` and `ratings.csv` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    _write_log(tmp_path / "my.csv")
    (tmp_path / "ratings.csv").write_text(_ratings(), encoding="utf-8")
    return tmp_path
