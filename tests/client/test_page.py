"""The user's own page: it tells what the store holds, changes nothing, and lets nothing but text through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from http.client import HTTPConnection, IncompleteRead
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


def _asked(
    page: palate.LocalPage, method: str = "GET", path: str | None = None, body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """One request to the page on loopback."""
    connection = HTTPConnection("127.0.0.1", page.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    form = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request(method, page.folder if path is None else path, body, {**form, **named})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def test_only_who_has_the_address_sees_the_page_and_the_address_works_once(open_device: Open) -> None:
    """**Guarantees:** only who has the address sees the page, and the address works once."""
    device = open_device()
    device.track("like", "book-1")
    with device.serve_page(language="en") as page:
        secret = page.url.partition("once=")[2]
        assert _asked(page)[0] == 403
        assert _asked(page, path=f"{page.folder}?once=wrong")[0] == 403
        assert _asked(page, path="/")[0] == _asked(page, path="/favicon.ico")[0] == 403
        entry = f"{page.folder}?once={secret}"
        assert _asked(page, path=entry, Host="evil.example")[0] == 403
        status, headers, _ = _asked(page, path=entry)
        assert (status, headers["Location"]) == (303, page.folder)
        assert _asked(page, path=entry)[0] == 403
        cookie = headers["Set-Cookie"].partition(";")[0]
        status, headers, shown = _asked(page, Cookie=cookie)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert _asked(page, Cookie=cookie, Host="localhost.evil.example")[0] == 403
        assert _asked(page, Cookie="palate=wrong")[0] == _asked(page, Cookie="palate=\xff;;=")[0] == 403
        (token,) = {each["value"] for each in Read(shown).named("input") if each["name"] == "token"}
        revoke = f"do=revoke&purpose=store&token={token}"
        wrong = [
            {"body": revoke},
            {"body": "do=revoke&purpose=store&token=wrong", "Cookie": cookie},
            {"body": "do=revoke&purpose=store", "Cookie": cookie},
            {"body": revoke, "Cookie": cookie, "Origin": "https://evil.example"},
            {"body": revoke, "Cookie": cookie, "Origin": "null"},
            {"body": revoke, "Cookie": cookie, "Content_Type": "text/plain"},
            {"body": revoke + "&more=" + "x" * 5000, "Cookie": cookie},
            {"body": f"do=revoke&purpose=all&token={token}", "Cookie": cookie},
            {"body": f"do=erase&token={token}", "Cookie": cookie},
            {"body": f"do=anything&token={token}", "Cookie": cookie},
        ]
        assert [_asked(page, "POST", **each)[0] for each in wrong] == [403] * len(wrong)
        assert device.consent.get("store")
        status, headers, data = _asked(page, "POST", body=f"do=export&token={token}", Cookie=cookie)
        assert (status, headers["Content-Disposition"]) == (200, 'attachment; filename="shelf.jsonl"')
        assert data.splitlines() == list(device.export_lines())
        assert "It did not work" in _asked(page, "POST", body=f"do=leave&token={token}", Cookie=cookie)[2]
        own = f"http://127.0.0.1:{page.port}"
        assert _asked(page, "POST", body=revoke, Cookie=cookie, Origin=own)[0] == 303
        assert not device.consent.get("store")
        assert page.actions.token not in repr(page.actions)
    assert page.closed
    with pytest.raises(OSError, match="refused"):
        _asked(page)


def test_the_page_on_loopback_ends_when_nobody_looks_and_says_when_its_device_is_gone(open_device: Open) -> None:
    device = open_device()
    with pytest.raises(palate.InputError, match="`seconds` must be a positive number"):
        device.serve_page(seconds=0)
    short = device.serve_page(seconds=0.01)
    assert short.wait(20)
    with device.serve_page(language="de") as page:
        _, headers, _ = _asked(page, path=f"{page.folder}?{page.url.partition('?')[2]}")
        device.close()
        status, _, text = _asked(page, Cookie=headers["Set-Cookie"].partition(";")[0])
        assert (status, "Diese Seite ist vorbei" in text) == (410, True)


def test_an_export_that_is_cut_short_is_no_whole_file_with_a_page_in_it(
    open_device: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = open_device()
    for n in range(5):
        device.track("like", f"book-{n}")
    whole = list(device.export_lines())

    def cut(lines: int) -> Callable[..., Any]:
        def made(_: palate.Device) -> Any:
            yield from whole[:lines]
            raise palate.ErasedError("the store must be there, got one that was erased")

        return made

    with device.serve_page(language="en") as page:
        _, headers, _ = _asked(page, path=f"{page.folder}?{page.url.partition('?')[2]}")
        export = {"body": f"do=export&token={page.actions.token}", "Cookie": headers["Set-Cookie"].partition(";")[0]}
        monkeypatch.setattr(palate.Device, "export_lines", cut(3))
        with pytest.raises(IncompleteRead) as caught:
            _asked(page, "POST", **export)
        assert caught.value.partial.decode().splitlines() == whole[:3]
        monkeypatch.setattr(palate.Device, "export_lines", cut(0))
        status, headers, text = _asked(page, "POST", **export)
        assert (status, "Content-Disposition" in headers, "It did not work" in text) == (200, False, True)


def test_tags_are_somebody_elses_text_too(open_device: Open) -> None:
    sample = palate.sample()
    device = open_device(service=sample.service)
    device.update_model(sample.folder)
    device.track("like", "book-7")
    shown = device.page(language="en", tags={"book-7": "x" * 1_000_000})
    assert len(shown) < 50_000
    assert f"<bdi>{'x' * 159}…</bdi>" in shown


KNOCK = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
with socket.socket(socket.AF_INET6 if sys.argv[3] == "6" else socket.AF_INET) as knocks:
    knocks.connect(("::ffff:127.0.0.1" if sys.argv[3] == "6" else "127.0.0.1", int(sys.argv[1])))
    knocks.sendall(f"GET {sys.argv[2]} HTTP/1.1\\r\\nHost: 127.0.0.1:{sys.argv[1]}\\r\\n\\r\\n".encode())
    print(knocks.recv(12).decode())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root of Linux can become another user")
@pytest.mark.parametrize("family", ["4", "6"])
def test_another_user_who_read_the_address_off_a_command_line_gets_nothing(open_device: Open, family: str) -> None:
    """**Guarantees:** other users of the machine can neither read the page nor press its buttons."""
    with open_device().serve_page() as page:
        entry = f"{page.folder}?{page.url.partition('?')[2]}"
        words = [sys.executable, "-I", "-S", "-c", KNOCK, str(page.port), entry, family]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout
        assert said.strip() == "HTTP/1.1 403"
        assert _asked(page, path=entry)[0] == 303, "the address is still the user's"


def test_who_knocks_in_an_odd_way_writes_nothing_into_the_apps_log(
    open_device: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with open_device().serve_page() as page:
        many = "&".join(f"a{n}=1" for n in range(40))
        assert _asked(page, path="HTTP://[x/")[0] == 403
        assert _asked(page, "POST", body=many)[0] == _asked(page, "POST", path="/", body=many)[0] == 403
        assert _asked(page, "POST", body="a", Content_Length="9" * 5000)[0] == 403
    assert caplog.records == []
