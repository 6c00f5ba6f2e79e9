"""How many words the documentation has, by page and in all: `make lint` ends where there are more than may be.

    python docs/words.py

A word is what stands between spaces and has a letter; of Chinese, two characters are one. Three limits:

- whole: everything on all pages, with tables, code and what is generated;
- prose: what somebody wrote to be read, so without tables and code, and without what docs/reference.py,
  docs/measured.py and docs/public.py write between their marks;
- a page's own: no page may be too long to be read in one go, and README and its translation are two screens.

The pages are README and its translation, CONTRIBUTING, SECURITY, AGENTS, CHANGELOG, all below docs, and the README of
the browser package and of each benchmark. Below docs/benchmarks are data: tables that docs/measured.py makes of
records, with the notes that a benchmark has for each. They are counted by themselves, and only a page's own limit
holds for them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROSE, WHOLE, PAGE = 45_000, 95_000, 6_000
"""The most words of prose, of everything, and of one page."""
SCREENS = {"README.md": 900, "README.zh.md": 900}
"""Pages that may be no longer than two screens."""
GENERATED = re.compile(r"<!-- (\w+): written by .*?(?:<!-- end of \1 -->|\Z)", re.DOTALL)
DATA = "docs/benchmarks/"
"""Where every page is made by docs/measured.py of what was recorded."""
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^ *\|.*$", re.MULTILINE)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LETTER = re.compile(r"[^\W\d_]")


def words(text: str) -> int:
    """How many words a text has."""
    rest = CHINESE.sub(" ", text)
    return sum(LETTER.search(each) is not None for each in rest.split()) + len(CHINESE.findall(text)) // 2


def prose(text: str) -> str:
    """What of a page somebody wrote to be read."""
    return TABLE.sub("", FENCE.sub("", GENERATED.sub("", text)))


def pages(root: Path = ROOT) -> dict[str, str]:
    """Each page of the documentation by its path, with its text."""
    single = [
        root / name
        for name in (*SCREENS, "CONTRIBUTING.md", "SECURITY.md", "AGENTS.md", "CHANGELOG.md", "client/web/README.md")
    ]
    found = [*single, *sorted((root / "docs").rglob("*.md")), *sorted(root.glob("simulations/benchmarks/*/README.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in found}


def counted(texts: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Of each page the words in all, and those of prose."""
    return {name: (words(text), words(prose(text))) for name, text in texts.items()}


def together(counts: dict[str, tuple[int, int]], *, data: bool = False) -> tuple[int, int]:
    """The sums over all pages that are read, or over those that are data."""
    chosen = [each for name, each in counts.items() if name.startswith(DATA) is data]
    return sum(whole for whole, _ in chosen), sum(written for _, written in chosen)


def too_many(counts: dict[str, tuple[int, int]]) -> list[str]:
    """A line for each limit that is exceeded."""
    most = {name: (whole, SCREENS.get(name, PAGE)) for name, (whole, _) in counts.items()}
    whole, written = together(counts)
    most |= {"all pages together": (whole, WHOLE), "their prose": (written, PROSE)}
    return [
        f"{name} must have {limit:,} words or fewer, got {found:,}"
        for name, (found, limit) in most.items()
        if found > limit
    ]


def main() -> int:
    """Print the counts, and what is too much."""
    counts = counted(pages())
    print("  whole  prose")
    for name, (whole, written) in sorted(counts.items(), key=lambda each: -each[1][0]):
        print(f"{whole:7,} {written:6,}  {name}")
    for what, (whole, written) in {"data": together(counts, data=True), "in all": together(counts)}.items():
        print(f"{whole:7,} {written:6,}  {what}")
    found = too_many(counts)
    print(*found, sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
