"""The user's own page: it tells what the store holds, changes nothing, and lets nothing but text through."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from lives import lived
from plans import kept_plan

import palate
from palate_client.language.language import language_of, shipped_languages
from palate_client.leaving.statement import most_right, most_true_positives
from palate_client.ledger.anchor import know_charges
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.page.facts import EVENTS
from palate_client.page.page import SECTIONS, Actions
from palate_client.page.totals import SPAN, Totals
from palate_client.store.journal import EVENTS as SINGLE_EVENTS
from palate_client.store.journal import Journal, Sent

Open = Callable[..., palate.Device]
NOW = 1_795_867_200.0  # 2026-11-28, noon
HOSTILE = '"><script>alert(1)</script><img src=http://x.example/ onerror=alert(1)>&amp;\x00\x1b\ud800\u202e</bdi></p>'


class Read(HTMLParser):
    """The elements of a page, and its text outside of the style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and not (self.elements[-1][0] == "style" and "{" in data):
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_life_is_told_and_nothing_is_changed(make_run: Callable[..., Any], open_device: Open, folder: Path) -> None:
    device = lived(make_run, open_device, NOW)
    device.store.file.checkpoint()
    before = _bytes(folder)
    titles = {f"item-{n}": f"Title {n}" for n in range(40)}
    pages = {
        name: device.page(language=name, titles=titles, tags={"item-1": ["Novel", "Poetry"]})
        for name in shipped_languages()
    }
    device.store.file.checkpoint()
    assert _bytes(folder) == before
    text = Read(pages["en"]).text
    report, statement = device.privacy_report(), device.statement()
    assert "90 events are stored on this device, encrypted." in text
    assert "Novel" in text
    shown = device.recommend(8, explore=0.0)
    for each in shown:
        assert titles[each.item] in text
        assert each.told("en", titles=titles) in text
    assert any("because you" in each.reason for each in shown)
    assert not re.search(r"item-\d", text)
    rounds = len(statement.rounds)
    assert f"Took part in {rounds} rounds. {len(report.sent)} messages left" in text
    assert text.count("numbers without noise: the server saw them, and added the noise") == rounds > 1
    assert report.spending is not None
    assert f"ε = {report.spending.epsilon:.4g} of at most 20 at δ = 1e-06; {rounds} of at most 1,000 rounds" in text
    assert "unit: user (this installation); adjacency: zero-out; accountant: palate closed form 1" in text
    assert "Keep on this device what you doyes, since 28 November 2026" in text
    assert "Be counted, with noiseno, since 28 November 2026" in text
    assert "Share your log openlyno" in text
    assert "1 sent, 0 waiting, 1 not sent." in text
    assert "not sent: you have allowed no way for it" in text
    assert f"Your part in {rounds} rounds stays in noised sums that were published" in text
    assert "This device refused 1 request." in text
    spoken = {name: Read(page) for name, page in pages.items()}
    assert {name: read.named("html")[0]["lang"] for name, read in spoken.items()} == {
        "de": "de",
        "en": "en",
        "zh": "zh-Hans",
    }
    english = [each for each in language_of("en").messages.values() if isinstance(each, str) and len(each) > 20]
    for name in ("de", "zh"):
        assert [each for each in english if each in spoken[name].text] == []
        assert [tag for tag, _ in spoken[name].elements] == [tag for tag, _ in spoken["en"].elements]
    device.erase()
    with pytest.raises(palate.ErasedError):
        device.page()


def test_an_empty_store_has_a_page(open_device: Open) -> None:
    device = open_device(consent=False)
    read = Read(device.page(language="en"))
    assert "Nothing that you did is stored." in read.text
    assert "There is no model on this device yet, so nothing is recommended." in read.text
    assert "Nothing made from what you did has left this device through Palate." in read.text
    assert "This app takes part in nothing, so nothing is spent." in read.text
    assert "There was no message for you yet." in read.text
    assert [each["id"] for each in read.named("section")] == list(SECTIONS)
    assert not read.named("form")


def test_rounds_that_protected_single_events_are_said_to(open_device: Open) -> None:
    device = open_device(service=palate.sample().service)
    known = "Some rounds protected no more than single items of your history."
    with OwnLedger(device.store, replace(palate.sample().service, participations=3)) as ledger:
        assert ledger.charge(kept_plan(1, run="r", mu2=0.1, dp="local"), n_bytes=9, purpose="train")
    with Journal(device.store.file) as journal:
        journal.record(Sent("contribution", "local", "r", 1, 0, 9, NOW))
    assert known not in Read(device.page(language="en")).text
    with Journal(device.store.file) as journal:
        journal.record(Sent("contribution", SINGLE_EVENTS, "r", 1, 0, 9, NOW))
    text = Read(device.page(language="en")).text
    assert known in text
    assert "with all of the noise added on this device" in text
    assert "unit: event (one item" in text


def test_it_loads_nothing_and_runs_nothing(open_device: Open) -> None:
    """**Guarantees:** the page loads nothing, and runs nothing."""
    device = open_device(app="x" * 100)
    device.track("like", "book-1")
    token = palate.new_key().hex()
    page = device.page(language="en", actions="https://app.example/palate?a=b", token=token)
    assert page.count(token) == len(Read(page).named("form")) > 2
    read = Read(page)
    policy = next(each["content"] for each in read.named("meta") if each.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("; form-action https://app.example; base-uri 'none'")
    loads = {"script", "img", "link", "iframe", "object", "embed", "base", "use", "image", "video", "audio"}
    assert {tag for tag, _ in read.elements} & loads == set()
    loading = {"src", "srcset", "style", "xlink:href", "poster", "data", "background"}
    assert [a for _, found in read.elements for a in found if a in loading or a.startswith("on")] == []
    assert all(str(each["href"]).startswith("#") for each in read.named("a"))
    assert "url(" not in page
    assert "@import" not in page
    assert {each["action"] for each in read.named("form")} == {"https://app.example/palate?a=b"}
    assert "form-action 'none'" in device.page()
    assert "form-action 'self'" in device.page(actions="/palate")


def test_whatever_a_title_an_id_or_a_reason_holds_it_is_text(open_device: Open) -> None:
    """**Guarantees:** whatever a title, an id or a reason holds, it is text."""
    device = open_device(app="<i>app</i>", service=palate.sample().service)
    device.update_model(palate.sample().folder)
    plain = Read(device.page(language="en"))
    device.consent.grant("messaging")
    messenger = device.messenger({"feed": lambda sent: None})
    messenger.allow("feed")
    messenger.deliver(palate.Message("m", title="<script>alert(2)</script>", transactional=True))
    for item in ("book-7", "book-15", "<script>alert(3)</script>"):
        device.track("like", item)
    page = device.page(language="en", titles={f"book-{n}": HOSTILE for n in range(160)}, tags={"book-7": HOSTILE})
    read = Read(page)
    more = {tag for tag, _ in read.elements} - {tag for tag, _ in plain.elements}
    assert more <= {"ul", "li", "span", "bdi", "svg", "rect", "line", "text", "h3", "div"}
    assert "<script" not in page
    assert "<img" not in page
    assert page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", page)
    assert '"><script>alert(1)</script>' in read.text
    assert read.text.count("<script>alert(3)</script>") == 1


def test_reasons_are_told_in_every_language_with_titles(open_device: Open) -> None:
    device = open_device(service=palate.sample().service)
    device.update_model(palate.sample().folder)
    assert device.recommend(1, explore=0.0)[0].told("de") == "bei anderen beliebt"
    for book in ("book-7", "book-15"):
        device.track("purchase", book)
    first = next(each for each in device.recommend(10, explore=0.0) if len(each.because) == 2)
    assert first.reason == f"because you bought {first.because[0].item} and bought {first.because[1].item}"
    titles = {"book-7": "Sieben", "book-15": "Fünfzehn"}
    one, other = (titles[each.item] for each in first.because)
    assert first.told("de", titles=titles) == f"weil du {one} gekauft hast und du {other} gekauft hast"
    assert first.told("zh", titles=titles) == f"因为你买过{one}和你买过{other}"
    assert first.told("en") == f"because you bought {first.because[0].item} and you bought {first.because[1].item}"
    assert first in device.recommend(10, explore=0.0)
    explored = device.recommend(10, explore=0.5)
    assert {each.told("de") for each in explored if each.source == "exploration"} == {"etwas Neues"}


@pytest.mark.parametrize(
    "wrong",
    [
        "palate",
        "//elsewhere.example/",
        "/\\\\elsewhere.example/",
        "https:///x",
        "http://[x",
        "javascript:alert(1)",
        "/x'; script-src *",
        "",
        7,
        "data:,",
    ],
)
def test_forms_go_to_a_path_or_an_http_address(wrong: Any) -> None:
    with pytest.raises(palate.InputError, match="`actions` must be a path from /, or an http address"):
        Actions(wrong)


def test_counts_follow_the_store_and_a_million_events_are_counted_in_spans(open_device: Open) -> None:
    device = open_device(limits=palate.Limits(max_events=SPAN * 3))
    totals = Totals(device.store)
    assert totals.now().kinds == {}
    device.track_many(palate.Event("view", f"b{n}", time=NOW, id=f"{n}") for n in range(2 * SPAN + 5))
    device.track("impression", "b1")
    now = totals.now()
    assert now.kinds == {"view": 2 * SPAN + 5, "impression": 1}
    assert sum(now.days(device.calendar).values()) == 2 * SPAN + 5
    device.track_many(palate.Event("like", f"b{n}", id=f"like-{n}") for n in range(SPAN))  # the oldest are dropped
    counted, events = totals.now(), list(device.store.events())
    assert sum(counted.kinds.values()) == len(events) < 3 * SPAN
    assert counted == Totals(device.store).now()
    assert f"and {len(events) - EVENTS:,} earlier ones" in device.page(language="en")


def test_share_of_right_answers_rounded_up() -> None:
    """**Guarantees:** share of right answers rounded up: never below that of `most_true_positives` at any rate."""
    for mu in (0.0, 1e-3, 0.3, 1.0, 2.5, 6.0):
        for reserved in (0.0, 1e-9, 1e-3):
            right = most_right(mu=mu, reserved=reserved)
            for step in range(1, 400):
                rate = step / 400
                assert (1 + most_true_positives(rate, mu=mu, reserved=reserved) - rate) / 2 <= right
            assert right <= 1.0
    assert most_right(mu=0.0) == pytest.approx(0.5, abs=1e-8)
    assert most_right(mu=1.0) == pytest.approx(0.6914625, abs=1e-6)


def test_a_lost_ledger_is_said_in_place_of_a_budget(open_device: Open) -> None:
    device = open_device(service=palate.sample().service)
    know_charges(device.store, 5)  # and none is there
    text = Read(device.page(language="en")).text
    assert "This can't be said: the ledger" in text
    assert "budget is spent" not in text
    assert "ε =" not in text


def test_tags_are_somebody_elses_text_too(open_device: Open) -> None:
    sample = palate.sample()
    device = open_device(service=sample.service)
    device.update_model(sample.folder)
    device.track("like", "book-7")
    shown = device.page(language="en", tags={"book-7": "x" * 1_000_000})
    assert len(shown) < 50_000
    assert f"<bdi>{'x' * 159}…</bdi>" in shown
