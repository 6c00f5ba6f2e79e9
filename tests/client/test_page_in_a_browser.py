"""The user's own page in a real Chromium: in three languages as a file, with its buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browsers import Browser
from lives import lived

import palate
from palate_client.page.page import SECTIONS

pytestmark = pytest.mark.slow

Open = Callable[..., palate.Device]
NOW = 1_795_867_200.0  # 2026-11-28, noon
TITLES = {
    "item-1": "<img src=x onerror=document.title='broken'>", "item-2": "Der Zauberberg", "item-3": "红楼梦",
    "item-4": "שלום", "item-5": "An" + "other" * 80,
}  # fmt: skip
FORMS = "https://shelf.example/palate"
TAGS = {f"item-{n}": ("Novel", "Poetry", "Science & <i>more</i>")[n % 3] for n in range(60)}
CHECKED = """(() => {
  const all = (at) => [...document.querySelectorAll(at)];
  const ids = all("[id]").map((each) => each.id);
  const named = (each) => each.ariaLabel || each.textContent.trim() || each.labels?.[0]?.textContent.trim();
  return {
    ids: ids.length - new Set(ids).size,
    unnamed: all("a, button, summary, input:not([type=hidden])").filter((each) => !named(each)).length,
    pictures: all("svg:not([aria-label]):not([aria-hidden=true])").length,
    small: all("button, summary").filter((each) => each.getBoundingClientRect().height < 24).length,
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    title: document.title,
    levels: all("h1, h2, h3").map((each) => +each.tagName[1]),
    main: all("main").length,
  };
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser.started() as started:
        yield started


def _is_fine(browser: Browser) -> str:
    """WCAG AA as far as a program sees it; the page's title."""
    found = browser.eval(CHECKED)
    assert (found["ids"], found["unnamed"], found["pictures"], found["small"], found["wide"]) == (0, 0, 0, 0, False)
    assert found["main"] == 1
    assert found["levels"][0] == 1
    assert all(after - before <= 1 for before, after in pairwise(found["levels"]))
    contrast = browser.do("contrast")
    assert contrast["bad"] == []
    assert contrast["seen"] > 20
    return str(found["title"])


def test_it_can_be_read_by_everybody(
    browser: Browser, make_run: Callable[..., Any], open_device: Open, tmp_path: Path
) -> None:
    device = lived(make_run, open_device, NOW)
    own = {"en": "What shelf knows about you", "de": "Was shelf über dich weiß", "zh": "shelf 对你了解多少"}
    for language, title in own.items():
        file = tmp_path / f"{language}.html"
        file.write_text(device.page(language=language, titles=TITLES, tags=TAGS, actions=FORMS), encoding="utf-8")
        for scheme, width in (("light", 390), ("dark", 1280)):
            browser.open(file.as_uri(), scheme=scheme, width=width, height=844)
            assert _is_fine(browser) == title
            ground = browser.eval("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark")
            assert [each for each in browser.do("told") if each.get("asked") != file.as_uri()] == []
    _by_keyboard(browser)


def _by_keyboard(browser: Browser) -> None:
    """Everything is reached, and it is seen where one is."""
    browser.do("press", key="Tab")
    assert browser.eval("document.activeElement.className") == "skip"
    assert browser.eval("document.activeElement.getBoundingClientRect().left") >= 0
    reached = set()
    for _ in range(browser.eval("document.querySelectorAll('a, button, summary').length") + 2):
        browser.do("press", key="Tab")
        reached.add(browser.eval("document.activeElement.outerHTML.slice(0, 80)"))
        style = browser.eval("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or browser.eval("document.activeElement === document.body")
    assert len(reached) > len(SECTIONS)
