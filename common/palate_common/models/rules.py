"""Rules: what an operator wants of every list, changed without a release of the app: a file of the published model.

    rules.toml -> read_rules -> rules.json, which the signed manifest names -> device, browser

    [[rule]]
    where = '"Winter" in categories and stock > 5'
    boost = 0.3
    until = 2026-12-24

    [[rule]]
    where = "age > 16"
    exclude = true

    [[rule]]
    pin = ["book-7"]

A rule leaves its items out (`exclude`), lifts them (`boost`, from -1 to 1, see `Device.recommend`), or puts some first
(`pin`). It is about public facts alone, the same for everybody. What it has brought into a list is said to the user.

    >>> rules_from({"rule": [{"pin": ["a"]}]})
    (Rule(where='', exclude=False, boost=0.0, pin=('a',), since=None, until=None),)
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from palate_common.models.item_rows import seconds_of
from palate_common.models.where import parse
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json

MOST_RULES, MOST_PINS, MOST_BYTES = 64, 20, 2**17
"""Rules of a file, items that one pins, and bytes of a file, at most."""
RULES = "rules.json"
"""The file of a published model."""
MOST_BOOST, PINNED = 1.0, 0.25
"""The largest boost; the share of a list, rounded up, that rules may pin."""
_MEMBERS: Final = ("where", "exclude", "boost", "pin", "from", "until")


@dataclass(frozen=True)
class Rule:
    """One rule: it excludes, boosts or pins.

    Attributes:
        where: the items that it is about, by a filter; "": it pins.
        exclude: they are in no list.
        boost: by how much they rise, or fall.
        pin: items that stand first, in this order.
        since, until: when it begins to hold, and no longer holds, in seconds since 1970; None: always.
    """

    where: str = ""
    exclude: bool = False
    boost: float = 0.0
    pin: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None

    def holds(self, now: float) -> bool:
        """Whether it holds at a time."""
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)

    @property
    def edges(self) -> tuple[float, ...]:
        """When it begins and ends."""
        return tuple(each for each in (self.since, self.until) if each is not None)


def rules_from(value: Any, *, dates: bool = True) -> tuple[Rule, ...]:
    """The rules of a file.

    Args:
        value: what it has.
        dates: whether times may be dates, as an operator writes them, and needn't be in seconds.

    Raises:
        InputError: a rule is none, and which.
    """
    listed = value.get("rule") if isinstance(value, dict) and set(value) <= {"rule", "format"} else None
    if not isinstance(listed, list) or len(listed) > MOST_RULES:
        raise InputError(f"rules must be a list `rule` of at most {MOST_RULES}, got something else")
    return tuple(_rule(each, number, dates) for number, each in enumerate(listed, start=1))


def _rule(value: Any, number: int, dates: bool) -> Rule:
    def must(what: str) -> InputError:
        return InputError(f"rule {number} must have {what}")

    if not isinstance(value, dict) or not set(value) <= set(_MEMBERS):
        raise must(f"no other members than {', '.join(_MEMBERS)}")
    where, exclude, boost, pin = (value.get(name) for name in _MEMBERS[:4])
    if sum(each is not None for each in (exclude, boost, pin)) != 1:
        raise must("one of exclude, boost and pin")
    if (where is None) != (pin is not None) or not isinstance(where or "", str):
        raise must("a filter as `where`, and only where it pins none")
    if exclude not in (None, True) or isinstance(boost, bool):
        raise must("`exclude` that is true, or a boost that is a number")
    if boost is not None and not (isinstance(boost, (int, float)) and 0 < abs(boost) <= MOST_BOOST):
        raise must("a boost from -1 to 1 and not 0")
    texts = isinstance(pin, list) and all(isinstance(each, str) and each for each in pin)
    if pin is not None and not (texts and 0 < len(pin) <= MOST_PINS and len(set(pin)) == len(pin)):
        raise must(f"a pin of 1 to {MOST_PINS} different ids")
    times = [value[name] for name in ("from", "until") if name in value]
    if not dates and not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in times):
        raise must("times in seconds since 1970")
    try:
        since, until = (None if name not in value else seconds_of(value[name], name) for name in ("from", "until"))
        if where is not None:
            parse(where)
    except InputError as error:
        raise InputError(f"rule {number}: {error}") from None
    return Rule(where or "", exclude is True, float(boost or 0), tuple(pin or ()), since, until)


def read_rules(path: Path, name: str) -> tuple[Rule, ...]:
    """Read rules as an operator writes them, in TOML.

    Args:
        path: the file.
        name: what names it, for messages.

    Raises:
        InputError: it can't be read, or a rule is none.
    """
    try:
        with path.open("rb") as file:
            return rules_from(tomllib.loads(_bounded(file.read(MOST_BYTES + 1), name).decode()))
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{name} must be TOML in UTF-8, got something else: {path}") from None


def rules_to_bytes(rules: Sequence[Rule]) -> bytes:
    """The rules as a file of a published model."""
    return canonical_json({"format": 1, "rule": [_members(rule) for rule in rules]})


def rules_from_bytes(data: bytes) -> tuple[Rule, ...]:
    """Read the rules of a published model.

    Raises:
        IntegrityError: they are none.
    """
    try:
        value = json.loads(_bounded(data, RULES).decode())
        if not isinstance(value, dict) or value.get("format") != 1:
            raise InputError("rules must be of format 1, got another")
        return rules_from(value, dates=False)
    except (ValueError, RecursionError):
        raise IntegrityError("rules must be JSON, got something else") from None
    except InputError as error:
        raise IntegrityError(str(error)) from None


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise InputError(f"{name} must be at most {MOST_BYTES} bytes, got more")
    return data


def _members(rule: Rule) -> dict[str, Any]:
    """What a file says of a rule."""
    whole = {**asdict(rule), "pin": list(rule.pin), "from": rule.since}
    return {name: whole[name] for name in _MEMBERS if whole[name] not in (None, "", False, 0.0, [])}
