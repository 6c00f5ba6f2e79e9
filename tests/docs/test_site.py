"""The site's pages, before a generator sees them: the navigation has each, and links lead to a page and a heading."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *(`{3,})[^\n]*\n.*?^ *\1$", re.MULTILINE | re.DOTALL)
ANCHOR = re.compile(r"^::: (\S+)$", re.MULTILINE)
NAV = re.compile(r"^ +- (?:.*: )?([\w/.-]+\.md)$", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page of the site by its path in it; other files are empty."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / "docs")
        spec = importlib.util.spec_from_file_location("website", ROOT / "docs" / "website.py")
        assert spec is not None
        assert spec.loader is not None
        website = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(website)
        website.write_pages(folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8") if path.suffix == ".md" else "" for path in files
    }


def test_the_navigation_has_every_page(site: dict[str, str]) -> None:
    named = NAV.findall((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert len(named) == len(set(named))
    assert set(named) == {name for name in site if name.endswith(".md") and not name.startswith("sources/")}


def test_links_lead_to_a_page_of_the_site(site: dict[str, str], anchors: Any) -> None:
    for name, text in site.items():
        if not name.endswith(".md"):
            continue
        for link in LINK.findall(FENCE.sub("", text)):
            if re.match(r"https?://", link):
                continue
            path, _, anchor = link.partition("#")
            target = (Path("/", name).parent / path).resolve().relative_to("/").as_posix() if path else name
            assert target in site, f"{name} links to {link}"
            if anchor and target.endswith(".md"):
                assert anchor in anchors(site[target]) | set(ANCHOR.findall(site[target])), f"{name} links to {link}"
