"""Links lead somewhere: to a file of the repository, and to a heading that is there."""

from __future__ import annotations

import re
from typing import Any

LINK = re.compile(r"\]\(([^)\s]+)\)")
SECRETS = re.compile(r"/work/|/tmp/|/root/|/home/|\.local/")


def test_links_resolve(page: Any, root: Any, anchors: Any) -> None:
    for link in LINK.findall(page.prose()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.exists(), f"{page.name} links to {link}"
        assert root in target.parents, f"{page.name} links outside the repository: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page.name} links to {link}"


def test_every_page_is_reachable(pages: dict[str, Any], root: Any) -> None:
    reached, todo = set(), [root / "README.md"]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        links = LINK.findall(path.read_text(encoding="utf-8"))
        local = (link.partition("#")[0] for link in links if not re.match(r"https?://|#", link))
        todo += [(path.parent / link).resolve() for link in local]
    assert {page.path for page in pages.values()} <= reached


def test_pages_name_no_machine(page: Any) -> None:
    assert not SECRETS.search(page.text)


def test_pictures_load_nothing(root: Any) -> None:
    for picture in (root / "docs" / "img").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert "<title" in text, picture.name
        assert "prefers-color-scheme: dark" in text, picture.name
        assert not re.search(r"<script|href=|url\((?!#)|@import", text), picture.name


def test_code_begins_on_a_line_of_its_own(page: Any) -> None:
    """A block whose fence was wrapped into a sentence is neither shown as code nor run."""
    assert [line for line in page.text.splitlines() if "```" in line and not re.match(r"\s*```\w*$", line)] == []
