"""Language: what is told to the user, in their language, from a catalogue of messages.

    catalogues/de.json -> Language -> reasons, the user's page

>>> german = language_of("de-AT")
>>> german.text("left.rounds", n=1), german.text("left.rounds", n=1200)
('Teilnahme an 1 Runde.', 'Teilnahme an 1.200 Runden.')
>>> german.day("2026-11-27"), german.number(0.25, digits=2)
('27. November 2026', '0,25')
>>> language_of("pt-BR").tag
'en'

A catalogue is one JSON file: what the language is (`language`), how it writes numbers and dates (`writing`), and the
`messages`. A message is text with `{names}` in it, or one text for each plural form. So a language is one file that
needs no build step, and the browser device reads the same ones. Plural forms are named as in Unicode's CLDR; the rule
that chooses one is gettext's `plural=` expression, which translators have for every language.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from gettext import c2py
from pathlib import Path
from typing import Any

from palate_core.errors import InputError

FOLDER = Path(__file__).with_name("catalogues")
BASE = "en"
"""The language of which every message is there; an app's own catalogue that lacks one says it in this language."""
MOST_CATALOGUE = 2**20
"""Bytes of the largest catalogue that is read."""
NAME = re.compile(r"\{(\w+)\}")
_PARTS = {"percent": {"n"}, "day": {"day", "month", "year"}, "moment": {"day", "time"}}
"""What can stand in curly brackets there."""
_COUNTS = (*range(200), 1000, 10**4, 10**6)
"""Counts for which a plural rule is tried."""
_TAG = re.compile(r"[A-Za-z]{1,8}([-_][A-Za-z0-9]{1,8})*")
_ENVIRONMENT = ("LC_ALL", "LC_MESSAGES", "LANG")
_WRITING = {"decimal": str, "group": str, "percent": str, "day": str, "moment": str, "months": list, "comma": str}
_WRITING |= {"and": str, "space": str}

Message = str | Mapping[str, str]


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        tag: its BCP 47 tag, for HTML's `lang`.
        direction: "ltr" or "rtl", for HTML's `dir`.
        forms: names of its plural forms, in the order of `rule`.
        rule: gettext's plural expression: the number of the form for a count n.
        writing: how numbers, dates and lists are written, and what stands between two sentences (`space`).
        messages: key -> message.
    """

    tag: str
    direction: str
    forms: tuple[str, ...]
    rule: str
    writing: Mapping[str, Any]
    messages: Mapping[str, Message]

    def text(self, key: str, **values: str | float) -> str:
        """A message with its values; numbers are written as the language does, and `n` chooses the plural form."""
        return "".join(str(part) for part in self.parts(key, **values))

    def parts(self, key: str, **values: Any) -> Iterator[Any]:
        """A message in pieces: its texts, and between them the values, numbers as text and others as they are."""
        form = self._form(key, values.get("n"))
        for place, piece in enumerate(NAME.split(form)):
            if place % 2 == 0:
                yield from (piece,) * bool(piece)
            else:
                value = values[piece]
                yield self.number(value) if isinstance(value, int | float) else value

    def has(self, key: str) -> bool:
        """Whether there is such a message."""
        return key in self.messages

    def number(self, value: float, *, digits: int = 0) -> str:
        """A number with `digits` decimals and grouped thousands."""
        whole, _, rest = f"{value:,.{digits}f}".partition(".")
        grouped = whole.replace(",", str(self.writing["group"]))
        return f"{grouped}{self.writing['decimal']}{rest}" if rest else grouped

    def percent(self, share: float) -> str:
        """A share of 1 in percent: with one decimal below 10 %, and never 0 for something."""
        percent = 100 * share
        if 0 < percent < 0.1:
            return f"< {self._fill('percent', n=self.number(0.1, digits=1))}"
        return self._fill("percent", n=self.number(percent, digits=int(0 < percent < 9.95)))

    def day(self, day: str | date) -> str:
        """A day, given as a date or in ISO 8601."""
        day = date.fromisoformat(day) if isinstance(day, str) else day
        month = self.writing["months"][day.month - 1]
        return self._fill("day", day=str(day.day), month=str(month), year=str(day.year))

    def moment(self, day: str | date, hour: float) -> str:
        """A day with the time of the day, in hours from 0 to 24."""
        minutes = int(hour * 60)
        return self._fill("moment", day=self.day(day), time=f"{minutes // 60:02d}:{minutes % 60:02d}")

    def list_parts(self, parts: Sequence[Any]) -> Iterator[Any]:
        """Several things as a list in a sentence, in pieces."""
        for place, part in enumerate(parts):
            if place:
                yield self.writing["and" if place == len(parts) - 1 else "comma"]
            yield part

    def _fill(self, how: str, **values: str) -> str:
        return NAME.sub(lambda found: values[found[1]], str(self.writing[how]))

    def _form(self, key: str, n: Any) -> str:
        message = self.messages[key]
        if isinstance(message, str):
            return message
        return message[self.forms[c2py(self.rule)(abs(int(n)))]]


def language_of(wanted: str | Path | None = None) -> Language:
    """The language for a wish, English if there is none that fits.

    Args:
        wanted: a BCP 47 tag, such as "zh-Hans-CN": the longest beginning of it for which there is a catalogue counts
            (lookup of RFC 4647, section 3.4). A `Path`: a catalogue of the app's own. None: the environment's.

    Raises:
        InputError: it is no tag, or the catalogue can't be used.
    """
    if isinstance(wanted, Path):
        return _own(wanted)
    if wanted is None:
        named = next(filter(None, (os.environ.get(name) for name in _ENVIRONMENT)), BASE)
        wanted = named.partition(".")[0].partition("@")[0]
        wanted = wanted if _TAG.fullmatch(wanted) else BASE
    if not isinstance(wanted, str) or not _TAG.fullmatch(wanted):
        raise InputError(
            f"`language` must be a BCP 47 tag, such as zh-Hans, or the path of a catalogue, got {wanted!r:.80}"
        )
    parts, there = wanted.replace("_", "-").lower().split("-"), shipped_languages()
    while parts:
        if (tag := "-".join(parts)) in there:
            return _read_shipped(tag)
        parts.pop()
    return _read_shipped(BASE)


@cache
def shipped_languages() -> tuple[str, ...]:
    """The languages that come with the package, by the names of their files."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


@cache
def _read_shipped(name: str) -> Language:
    return read_catalogue(FOLDER / f"{name}.json")


def _own(path: Path) -> Language:
    """A catalogue of the app's own; what it lacks, as after an update of the package, is said in English."""
    try:
        own, base = read_catalogue(path), _read_shipped(BASE)
    except OSError as error:
        raise InputError(f"`language` must be a catalogue that can be read, got {path}: {error.strerror}") from None
    for key, message in own.messages.items():
        if key in base.messages and names_of(message) != names_of(base.messages[key]):
            raise InputError(
                f"{path}: {key!r} must have the placeholders {_list_names(names_of(base.messages[key]))}, got"
                f" {_list_names(names_of(message))}"
            )
    taken = {key: own.messages.get(key, message) for key, message in base.messages.items()}
    lacking = {key for key in taken if key not in own.messages}
    # An English plural has English forms: in a language that has others they stand for those it lacks.
    for key in lacking:
        if isinstance(said := taken[key], Mapping):
            taken[key] = {form: said.get(form, said["other"]) for form in own.forms}
    return Language(own.tag, own.direction, own.forms, own.rule, own.writing, taken)


def read_catalogue(path: Path) -> Language:
    """Read a catalogue.

    Raises:
        OSError: it can't be read.
        InputError: it is none.
    """
    with path.open("rb") as file:
        data = file.read(MOST_CATALOGUE + 1)
    try:
        if len(data) > MOST_CATALOGUE:
            raise ValueError(f"more than {MOST_CATALOGUE} bytes")
        found = json.loads(data)
        about, writing, messages = found["language"], found["writing"], found["messages"]
        forms = tuple(about["forms"])
        form_of = c2py(about["plural"])  # a malformed rule is an error here
        if not {form_of(n) for n in _COUNTS} <= {*range(len(forms))}:
            raise ValueError(f"`plural` must give the number of one of {len(forms)} forms")
        if not _TAG.fullmatch(about["tag"]) or about["dir"] not in ("ltr", "rtl") or not forms:
            raise ValueError("`language` needs `tag`, `dir` and `forms`")
        for name, type_ in _WRITING.items():
            if not isinstance(writing[name], type_):
                raise ValueError(f"`writing` needs {name}")
        for name, known in _PARTS.items():
            if not {*NAME.findall(writing[name])} <= known:
                raise ValueError(f"`{name}` must have no other placeholders than {_list_names(frozenset(known))}")
        if len(writing["months"]) != 12 or not all(isinstance(each, str) for each in writing["months"]):
            raise ValueError("`months` must be twelve texts")
        for key, message in messages.items():
            said = message.values() if isinstance(message, dict) else (message,)
            if not all(isinstance(each, str) for each in said) or (
                isinstance(message, dict) and set(message) != {*forms}
            ):
                raise ValueError(f"{key} must be text, or one for each of {_list_names(forms)}")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputError(f"`language` must be a catalogue of messages, got {path}: {error}") from None
    return Language(about["tag"], about["dir"], forms, about["plural"], writing, messages)


def names_of(message: Message) -> frozenset[str]:
    """The placeholders of a message; a plural form may do without `n`, such as "one day"."""
    forms = [message] if isinstance(message, str) else list(message.values())
    found = {name for form in forms for name in NAME.findall(form)}
    return frozenset(found | (set() if isinstance(message, str) else {"n"}))


def _list_names(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"
