"""Catalogues of messages: each language says everything, with the same placeholders, as its speakers write it."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import palate
from palate_client.consent import PURPOSES
from palate_client.delivery.rules import Reason
from palate_client.language.language import (
    FOLDER,
    NAME,
    language_of,
    names_of,
    read_catalogue,
    shipped_languages,
)
from palate_client.page.page import SECTIONS
from palate_client.recommend.recommender import TURNED_DOWN
from palate_common.kinds import KINDS, Says

ROOMS = ("language", "page", "recommend")
CLIENT = Path(FOLDER).parents[1]


def _raw(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_there_are_three_and_each_says_everything_with_the_same_placeholders() -> None:
    assert shipped_languages() == ("de", "en", "zh")
    base = read_catalogue(FOLDER / "en.json").messages
    for name in shipped_languages():
        own = read_catalogue(FOLDER / f"{name}.json")
        assert list(own.messages) == list(base), name
        for key, message in own.messages.items():
            assert names_of(message) == names_of(base[key]), (name, key)
            texts = [message] if isinstance(message, str) else list(message.values())
            assert all(text.strip() == text and text for text in texts), (name, key)
        assert own.tag == {"zh": "zh-Hans"}.get(name, name)
    assert _raw("zh")["language"]["forms"] == ["other"]


def test_every_message_is_used_and_every_one_that_is_used_is_there() -> None:
    keys = set(read_catalogue(FOLDER / "en.json").messages)
    text = "".join(file.read_text(encoding="utf-8") for room in ROOMS for file in (CLIENT / room).rglob("*.py"))
    made = {f"kind.{kind}" for kind in KINDS}
    made |= {f"reason.{kind}" for kind in KINDS if KINDS[kind].says >= Says.FOR or kind == TURNED_DOWN}
    made |= {f"message.{each.value}" for each in Reason} | {f"{name}.heading" for name in SECTIONS}
    made |= {f"{about}.{purpose}" for about in ("purpose", "remains") for purpose in PURPOSES}
    made |= {f"left.{purpose}" for purpose in ("train", "analytics", "unknown")}
    made |= {f"left.dp.{dp}" for dp in ("distributed", "local", "events", "central", "off", "none")}
    made |= {f"done.{what}" for what in ("revoke", "leave", "failed", "closed", "closed.lead", "erased", "erased.lead")}
    assert made <= keys
    assert {key for key in keys - made if f'"{key}"' not in text} == set()


@pytest.mark.parametrize(
    ("tag", "found"),
    [("de", "de"), ("de-AT", "de"), ("DE_at", "de"), ("zh-Hans-CN", "zh-Hans"), ("zh-TW", "zh-Hans"), ("en-GB", "en"),
     ("fr", "en"), ("pt-BR", "en"), ("deu", "en"), ("x-klingon", "en")],
)  # fmt: skip
def test_a_language_falls_back_by_its_tag(tag: str, found: str) -> None:
    assert language_of(tag).tag == found


@pytest.mark.parametrize("wrong", ["", "de AT", "../de", "d" * 9, "de-", 7, b"de"])
def test_what_is_no_tag_is_refused(wrong: Any) -> None:
    with pytest.raises(palate.InputError, match="`language` must be a BCP 47 tag"):
        language_of(wrong)


def test_without_a_wish_it_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert language_of().tag == "en"
    monkeypatch.setenv("LANG", "de_DE.UTF-8@euro")
    assert language_of().tag == "de"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert language_of().tag == "en"
    monkeypatch.setenv("LC_ALL", "zh_CN.GB18030")
    assert language_of().tag == "zh-Hans"


def test_numbers_dates_and_plurals_are_written_as_the_language_does() -> None:
    english, german, chinese = map(language_of, ("en", "de", "zh"))
    assert [each.number(1234567.891, digits=2) for each in (english, german, chinese)] == [
        "1,234,567.89", "1.234.567,89", "1,234,567.89",
    ]  # fmt: skip
    assert [each.percent(0.125) for each in (english, german)] == ["12%", "12 %"]
    assert [english.percent(share) for share in (0, 1e-6, 0.034, 0.0996, 1)] == ["0%", "< 0.1%", "3.4%", "10%", "100%"]
    day = date(2026, 3, 1)
    assert [each.day(day) for each in (english, german, chinese)] == ["1 March 2026", "1. März 2026", "2026年3月1日"]
    assert german.moment(day, 23.999) == "1. März 2026, 23:59 Uhr"
    said = [[each.text("left.rounds", n=n) for n in (0, 1, 2)] for each in (english, german, chinese)]
    assert said[0] == ["Took part in 0 rounds.", "Took part in 1 round.", "Took part in 2 rounds."]
    assert said[1] == ["Teilnahme an 0 Runden.", "Teilnahme an 1 Runde.", "Teilnahme an 2 Runden."]
    assert said[2] == ["参加了 0 轮。", "参加了 1 轮。", "参加了 2 轮。"]


def _own(tmp_path: Path, **changes: Any) -> Path:
    """A catalogue of an app's own, in a language with three plural forms that reads from right to left, say."""
    rule = "n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2"
    about = {"tag": "x-own", "name": "Own", "dir": "rtl", "forms": ["one", "few", "many"], "plural": rule}
    forms = {"one": "{n} runda", "few": "{n} rundy", "many": "{n} rund"}
    found = {
        "language": about,
        "writing": _raw("de")["writing"],
        "messages": {"left.rounds": forms, "did.none": "Nic."},
    }
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**found, **changes}), encoding="utf-8")
    return file


def test_an_app_adds_a_language_and_what_it_lacks_is_said_in_english(tmp_path: Path) -> None:
    own = language_of(_own(tmp_path))
    assert (own.tag, own.direction) == ("x-own", "rtl")
    assert [own.text("left.rounds", n=n) for n in (1, 3, 5, 21, 112)] == [
        "1 runda", "3 rundy", "5 rund", "21 runda", "112 rund",
    ]  # fmt: skip
    assert own.text("did.none") == "Nic."
    assert own.text("shown.none") == language_of("en").text("shown.none")
    assert own.text("left.refused", n=3) == "This device refused 3 requests."


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"messages": {"did.days": dict.fromkeys(("one", "few", "many"), "{n}")}}, "the placeholders first, n, got n"),
        ({"messages": {"did.none": "{app}"}}, "must have the placeholders \\(none\\), got app"),
        ({"messages": {"did.none": {"other": "x"}}}, "must be text, or one for each of few, many, one"),
        ({"language": {}}, "must be a catalogue of messages"),
        ({"language": {"tag": "x", "dir": "ltr", "forms": ["a"], "plural": "__import__('os')"}}, "must be a catalogue"),
        ({"writing": {}}, "must be a catalogue of messages"),
        ({"writing": {**_raw("de")["writing"], "day": "{jour}"}}, "`day` must have no other placeholders"),
        ({"writing": {**_raw("de")["writing"], "months": [1] * 12}}, "`months` must be twelve texts"),
        ({"language": {"tag": "x", "dir": "ltr", "forms": ["one", "few", "many"], "plural": "n"}}, "one of 3 forms"),
        ({"language": {"tag": "x", "dir": "ltr", "forms": ["one", "few", "many"], "plural": "3/n"}}, "by zero"),
        ({"messages": []}, "must be a catalogue of messages"),
    ],
)  # fmt: skip
def test_a_catalogue_that_is_none_says_so_in_a_line(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(palate.InputError, match=why) as caught:
        language_of(_own(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_catalogue_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(palate.InputError, match=r"must be a catalogue that can be read, got .*: No such file"):
        language_of(tmp_path / "none.json")
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(palate.InputError, match="more than 1048576 bytes"):
        language_of(tmp_path / "large.json")


def test_placeholders_are_names_alone() -> None:
    text = "".join((FOLDER / f"{name}.json").read_text(encoding="utf-8") for name in shipped_languages())
    assert all(re.fullmatch(r"[a-z]+", name) for name in NAME.findall(text))
