"""A translation says what its original says: the same commands, code and figures, section by section.

Its commands and code aren't run again: they are compared with those of the original, which the other tests run.
"""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from collections import Counter
from typing import Any

import pytest

FIGURE = re.compile(r"\d+(?:[.,]\d+)*(?:e-\d+)?")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s#]+)")


@pytest.fixture(params=["README.zh.md", "docs/zh/first-run.md"])
def pair(request: pytest.FixtureRequest, pages: dict[str, Any], translations: dict[str, str]) -> tuple[Any, Any]:
    """A translation and its original."""
    return pages[request.param], pages[translations[request.param]]


@pytest.fixture
def sections(pair: tuple[Any, Any], root: Any) -> list[tuple[str, str, str]]:
    """Heading, text and original text of each section of a translation."""
    page, original = pair
    headings = tomllib.loads((root / "docs" / "zh" / "terms.toml").read_text(encoding="utf-8"))["headings"][page.name]
    assert re.findall(r"^## (.+)$", page.prose(), re.MULTILINE) == list(headings)
    assert re.findall(r"^## (.+)$", original.prose(), re.MULTILINE) == list(headings.values()), "no section is left out"
    return [(here, page.section(here), original.section(there)) for here, there in headings.items()]


def code(block: Any) -> list[str]:
    """The tokens of a Python block without comments, which are translated; the text of another."""
    if block.language != "python":
        return [block.text]
    tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
    return [token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)]


def test_it_has_the_blocks_of_the_original(pair: tuple[Any, Any]) -> None:
    page, original = pair
    for language in ("console", "python"):
        there = [code(block) for block in original.blocks(language)]
        assert [code(block) for block in page.blocks(language)] == there


def test_its_figures_and_code_are_those_of_the_original(sections: list[tuple[str, str, str]]) -> None:
    for heading, text, original in sections:
        for pattern in (FIGURE, CODE):
            own, there = (Counter(pattern.findall(each)) for each in (text, original))
            assert own <= there, f"{heading}: {dict(own - there)}"


def test_the_editions_lead_to_each_other_and_to_the_same_pages(
    pair: tuple[Any, Any], translations: dict[str, str], root: Any
) -> None:
    page, original = pair
    targets = []
    for each in (page, original):
        local = (link for link in LINK.findall(each.prose()) if not link.startswith("http"))
        targets.append({(each.path.parent / link).resolve() for link in local})
    assert original.path in targets[0]
    assert page.path in targets[1]
    assert targets[0] - {root / each for each in translations} - {original.path} <= targets[1]
