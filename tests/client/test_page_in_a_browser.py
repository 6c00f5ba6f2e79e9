"""The user's own page in a real Chromium: in three languages as a file, and with its buttons on loopback."""

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


def test_it_can_be_read_by_everybody_and_its_buttons_work(
    browser: Browser, make_run: Callable[..., Any], open_device: Open, tmp_path: Path
) -> None:
    device = lived(make_run, open_device, NOW)
    own = {"en": "What shelf knows about you", "de": "Was shelf über dich weiß", "zh": "shelf 对你了解多少"}
    for language, title in own.items():
        file = tmp_path / f"{language}.html"
        file.write_text(device.page(language=language, titles=TITLES, tags=TAGS), encoding="utf-8")
        for scheme, width in (("light", 390), ("dark", 1280)):
            browser.open(file.as_uri(), scheme=scheme, width=width, height=844)
            assert _is_fine(browser) == title
            ground = browser.eval("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, ground[4:-1].split(","))) < 150) == (scheme == "dark")
            assert [each for each in browser.do("told") if each.get("asked") != file.as_uri()] == []
    _by_keyboard(browser)
    _by_its_buttons(browser, device)


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


def _by_its_buttons(browser: Browser, device: palate.Device) -> None:
    """On loopback: in by the address, once; a purpose is turned off; everything is erased, after a question."""
    with device.serve_page(titles=TITLES, tags=TAGS) as page:
        assert browser.open(page.url)["url"] == page.url.partition("?")[0]
        (cookie,) = browser.do("cookies")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", page.folder)
        assert _is_fine(browser) == "What shelf knows about you"
        assert browser.open(page.url, cookies=False)["status"] == 403
        browser.do("put", cookies=[cookie])
        browser.open(page.url.partition("?")[0], width=390, scheme="dark")
        browser.do("click", at="input[value=train] ~ button")
        browser.wait("document.querySelector('[role=status]')?.textContent === 'Turned off.'")
        assert not device.consent.get("train")
        assert browser.eval("document.querySelectorAll('input[value=train]').length") == 0
        browser.do("click", at="#leave summary")
        browser.do("click", at="#leave details button")  # not yet: the box must be ticked
        assert browser.eval("document.querySelector('#leave details input[type=checkbox]').validity.valueMissing")
        assert device.consent.get("store")
        browser.do("click", at="#leave details input[type=checkbox]")
        browser.do("click", at="#leave details button")
        browser.wait("document.title === 'Everything on this device is erased'")
        assert "stays in noised sums that were published" in browser.eval("document.body.textContent")
        assert [each["said"] for each in browser.do("told") if "said" in each] == []
        assert page.wait(5.0)
    with pytest.raises(palate.ErasedError):
        device.privacy_report()
