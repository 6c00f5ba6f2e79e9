"""The site of the documentation: its pages, made from where they are in the repository, and the check of what is built.

    python docs/website.py pages FOLDER     # what the generator builds
    python docs/website.py check FOLDER     # what it has built

Nothing is kept twice. The pages are those of docs/ and, beside them:

- README.md as the first page, its Chinese edition, CONTRIBUTING.md, SECURITY.md, CHANGELOG.md;
- whatever these link to in the repository, be it another page, a source file or a folder, so that a reader needs
  nothing but the site;
- the notebook as a page; and an API reference of exactly the names of docs/public.md, from their docstrings.

The check follows each link, anchor and picture of the built site. A broken one, or one that would load something from
elsewhere, ends `make docs`. What lies between the two, mkdocs.yml and a generator that reads it, can be replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from urllib.parse import unquote, urlsplit

import public

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "README.md": "index.md",
    "README.zh.md": "zh/index.md",
    "docs/README.md": "pages.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "docs/tutorials/simulate.ipynb": "tutorials/simulate.md",
}
"""Where the site has a file of the repository that is not simply below docs/."""
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
FENCE = re.compile(r"^( *```\w*\n.*?^ *```)$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"( *)([-*]|\d+\.) ")
LARGE = 100_000
"""Bytes above which a file is handed out as it is, and not shown as a page."""
SOURCE = "---\nsearch: {exclude: true}\n---\n\n"
"""A page that the search leaves out, since the search is for the documentation."""


# ------------------------------------------------------------------------------------------------ which pages there are


def write_pages(folder: Path) -> int:
    """Write all pages of the site into an empty folder, and return how many there are."""
    shutil.rmtree(folder, ignore_errors=True)
    todo = [*PLACES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
    todo += ["docs/site/site.css", "docs/site/iframe-worker.js"]
    seen = set[str]()
    while todo:
        path = todo.pop()
        if path in seen or not (ROOT / path).exists():  # the check names the link that leads nowhere
            continue
        seen.add(path)
        there, written = ROOT / path, folder / place(path)
        if there.is_dir() and (there / "README.md").is_file():
            todo.append(f"{path}/README.md")
            continue
        written.parent.mkdir(parents=True, exist_ok=True)
        if written.suffix == ".md":
            written.write_text(page(there), encoding="utf-8")
        else:
            written.write_bytes(there.read_bytes())
        if there.suffix == ".md":
            todo += [_target(path, link) for link in _links(there.read_text(encoding="utf-8"))]
    (folder / "api").mkdir()
    for package, whom in public.PACKAGES.items():
        (folder / "api" / f"{package}.md").write_text(reference(package, whom), encoding="utf-8")
    return len(list(folder.rglob("*.md")))


def place(path: str) -> str:
    """Where the site has a file or folder of the repository."""
    if path in PLACES:
        return PLACES[path]
    there = ROOT / path
    if there.is_dir():
        return place(f"{path}/README.md") if (there / "README.md").is_file() else f"sources/{path}/index.md"
    if path.startswith("docs/") and there.suffix not in (".py", ""):
        return path.removeprefix("docs/")
    if there.suffix == ".md" or there.stat().st_size > LARGE:
        return f"sources/{path.replace('README.md', 'index.md')}"
    return f"sources/{path}.md"


def page(path: Path) -> str:
    """A file or folder of the repository as a page of the site."""
    if path.is_dir():
        return listing(path)
    if path.suffix == ".ipynb":
        return notebook(path)
    return prose(path) if path.suffix == ".md" else source(path)


def prose(path: Path) -> str:
    """A page of the repository with its links leading to the site's pages, and its sessions as such."""
    name = path.relative_to(ROOT).as_posix()
    parts = FENCE.split(path.read_text(encoding="utf-8"))
    parts[::2] = [_listed(LINK.sub(lambda match: _within(name, match[1]), part)) for part in parts[::2]]
    parts[1::2] = [part.replace("```python", "```pycon", 1) if "\n>>> " in part else part for part in parts[1::2]]
    text = _with_reference("".join(parts)) if name == "docs/public.md" else "".join(parts)
    if place(name).startswith("zh/"):
        return f'<div lang="zh-Hans" markdown>\n\n{text}\n\n</div>\n'
    return SOURCE + text if place(name).startswith("sources/") else text


def source(path: Path) -> str:
    """A source file as a page; not searched, since the search is for the documentation."""
    text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    language = {".py": "python", ".sh": "bash", ".jsonl": "json", ".mjs": "js", "": "python"}.get(path.suffix)
    return f"{SOURCE}# {name}\n\n````{language or path.suffix[1:]}\n{text}\n````\n"


def listing(folder: Path) -> str:
    """A folder as a page: its files, with the first line that each Python module says about itself."""
    name = folder.relative_to(ROOT).as_posix()
    rows = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).as_posix()
        if path.is_file() and "__pycache__" not in inner and "node_modules" not in inner:
            said = re.match(r'r?"""(.+)', path.read_text(encoding="utf-8")) if path.suffix == ".py" else None
            rows.append(f"| `{inner}` | {said[1].replace('|', chr(92) + '|') if said else ''} |".replace('"""', ""))
    return f"{SOURCE}# {name}\n\n| file | |\n|---|---|\n" + "\n".join(rows) + "\n"


def notebook(path: Path) -> str:
    """A notebook's cells as a page."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    return "\n\n".join(
        text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in zip(kinds, shown, strict=True)
    )


def reference(package: str, whom: str) -> str:
    """The page of a package: each public name with its docstring, or where it has stood before."""
    parts = [f"# `{package}`: {whom}\n"]
    for each in public.exported(package):
        anchor, (first, name) = f"{each.module}.{each.defined}", _first_named()[each.module, each.defined]
        if first == package:
            parts.append(f"::: {anchor}\n    options: {{heading: {package}.{each.name}, toc_label: {each.name}}}\n")
        else:
            parts.append(f"## {package}.{each.name}\n\nThe same as [`{first}.{name}`]({first}.md#{anchor}).\n")
    return "\n".join(parts)


@cache
def _first_named() -> Mapping[tuple[str, str], tuple[str, str]]:
    """Module and name of a definition -> the first package that exports it, and as what."""
    names = [(package, each) for package in public.PACKAGES for each in public.exported(package)]
    return {(each.module, each.defined): (package, each.name) for package, each in reversed(names)}


# ------------------------------------------------------------------------------------------------------ what is on them


def _links(text: str) -> Iterator[str]:
    for part in FENCE.split(text)[::2]:
        yield from LINK.findall(part)


def _target(path: str, link: str) -> str:
    """The file or folder of the repository that a page links to."""
    return normpath((PurePosixPath(path).parent / link).as_posix())


def _within(path: str, link: str) -> str:
    """A link of a page of the repository as one between pages of the site."""
    target = _target(path, link)
    return relpath(place(target), PurePosixPath(place(path)).parent.as_posix()) if (ROOT / target).exists() else link


def _listed(text: str) -> str:
    """Lists begin after an empty line, and what belongs to an entry is four spaces in, as Python-Markdown wants it."""
    lines: list[str] = []
    for line in text.split("\n"):
        before = lines[-1] if lines else ""
        if ENTRY.match(line) and before.strip() and not ENTRY.match(before) and not before.startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _with_reference(markdown: str) -> str:
    """The table of public names, each leading to its place in the reference."""
    for package in public.PACKAGES:
        for each in public.exported(package):
            first, _ = _first_named()[each.module, each.defined]
            row = f" | `{each.module}` |"
            markdown = markdown.replace(
                f"| `{each.name}`{row}", f"| [`{each.name}`](api/{first}.md#{each.module}.{each.defined}){row}"
            )
    return markdown


# -------------------------------------------------------------------------------------------------- whether it is whole


class _Page(HTMLParser):
    """What a built page can be linked at, and what it links to or loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors, self.links, self.loads = set[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: Mapping[str, str] = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("img", "script", "source", "iframe") and "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.loads.append(given["href"])


def broken(site: Path) -> Iterator[str]:
    """What is wrong with a built site: a line for each link, anchor or picture."""
    site = site.resolve()

    @cache
    def built(path: Path) -> _Page:
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    for path in sorted(site.rglob("*.html")):
        name, page = path.relative_to(site), built(path)
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name} loads {link}: the site loads nothing from elsewhere"
                continue
            below = site if parts.path.startswith("/") else path.parent  # 404.html may be shown at any address
            target = (below / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or site not in target.parents:
                yield f"{name} links to {link}, which isn't there"
            elif parts.fragment and target.suffix == ".html" and not _there(parts.fragment, built(target)):
                yield f"{name} links to {link}, which has no such heading"


def _there(fragment: str, page: _Page) -> bool:
    return unquote(fragment) in page.anchors or fragment == "__top"


def main(command: str, folder: str) -> int:
    """Write the pages, or check what was built."""
    if command == "pages":
        print(f"{write_pages(Path(folder))} pages")
        return 0
    found = list(broken(Path(folder)))
    print("\n".join(found) or "every link, anchor and picture of the site is there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
