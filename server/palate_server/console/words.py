"""Words: the service's events and parts as sentences for the operator, without anything that tells devices apart.

    logs/events.jsonl -> told() -> Line

The log has no device, key or address in it. What is shown of it goes through `without_identifiers` all the same: texts
of errors are from many places, and a page is read over shoulders.

>>> without_identifiers("device 17 of 203.0.113.9 has sent nothing, and 6 came")
'device … of … has sent nothing, and 6 came'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from palate_core.masks.messages import Step
from palate_server.folder.events import told_reason
from palate_server.folder.logs import SECRET, unwrapped
from palate_server.operation.outlook import TROUBLES

MOST_TEXT = 2**14
"""Characters of a text that are looked at."""
GONE = "…"
"""What stands in the place of an identifier."""
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL)
_NUMBERED = re.compile(
    r"\b(devices?|nodes?|members?|part(?:y|ies)|invitations?|tokens?) (?:no\.? ?|number |#)?-?\d+"
    r"(?:(?:, | and | to )\d+)*",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\w.]?\d)")
_IPV6 = re.compile(
    r"(?<![\w:])(?!::1\b)(?:(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:)+(?::[0-9a-f]{1,4})+|"
    r"(?:[0-9a-f]{1,4}:)+:|::[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)(?![\w:])",
    re.IGNORECASE,
)
_LONG = re.compile(
    r"(?<!\d)\d{10,}|\b[0-9a-fA-F]{16,}\b|(?<![\w/+.-])(?=[\w+-]*\d)(?=[\w+-]*[A-Za-z])[\w+-]{32,}={0,2}"
)

Says = Callable[[Mapping[str, Any]], str]
"""Makes a sentence of an event."""
GOOD, NOTE, BAD = "good", "note", "bad"
"""How a line of the log is marked."""

PARTS: Mapping[str, tuple[str, str]] = {
    "supervisor": ("Supervisor", "starts the others, and starts again what ends"),
    "superlink": ("SuperLink", "Flower's: messages of devices, over TLS"),
    "serverapp": ("ServerApp", "the runs; it alone charges the ledger"),
    "gateway": ("Gateway", "nginx, the one part that faces the network"),
    "enrolment": ("Enrolment", "lets invited devices in"),
    "witness": ("Witness folder", "a copy of each charge, before it is sent"),
    "witnesses": ("Witnesses", "other people who cosign the ledger"),
}
"""Part -> its name, and what it is for."""

STEPS: Mapping[int, tuple[str, str]] = {
    0: ("Contributions", "each device trains, clips and answers; the server adds the noise"),
    Step.COMMIT: ("Commit", "devices toss for who is whose neighbour"),
    Step.ADVERTISE: ("Keys", "each device shows the keys of this attempt"),
    Step.SHARE: ("Shares", "each device deals shares of its secrets"),
    Step.CHECK: ("Check", "neighbours say whether their shares are good"),
    Step.OPEN: ("Complaints", "shares that were complained about are opened"),
    Step.INPUT: ("Masked vectors", "each device trains, adds its noise and its masks"),
    Step.CONSISTENCY: ("Who is in", "devices sign who is in the sum"),
    Step.UNMASK: ("Unmask", "shares open the sum, and nothing else"),
}
"""Step of an attempt -> its name, and what happens in it."""
RARE = {Step.COMMIT, Step.OPEN}
"""Steps that an attempt needn't have."""


@dataclass(frozen=True)
class LogLine:
    """A line of the log.

    Attributes:
        at: when it was written, ISO 8601, UTC; of several that are told together, the last.
        mark: `GOOD`, `NOTE` or `BAD`.
        event: the name of the event.
        text: what happened.
        act: what to do; empty: nothing.
    """

    at: str
    mark: str
    event: str
    text: str
    act: str = ""


def without_identifiers(text: str) -> str:
    """A text without numbers of devices and nodes, keys, tokens and addresses; at most 400 characters of it."""
    text = unwrapped(_PEM.sub(GONE, text[:MOST_TEXT]))
    for pattern in (_IPV4, _IPV6, SECRET, _LONG):
        text = pattern.sub(GONE, text)
    text = _NUMBERED.sub(rf"\1 {GONE}", text)
    return text if len(text) <= 400 else f"{text[:399]}{GONE}"


def line_of_error(error: Exception) -> str:
    """What an error says, as it may be shown."""
    return without_identifiers(" ".join(f"{error}".split()) or type(error).__name__)


def part_words(part: str) -> tuple[str, str]:
    """A part's name, and what it is for."""
    base, _, number = part.partition(" ")
    name, role = PARTS.get(base, (part, ""))
    return f"{name} {number}".strip(), role


def told(
    events: Iterable[Mapping[str, Any]], *, most: int, said: Mapping[str, tuple[str, Says]] | None = None
) -> list[LogLine]:
    """The latest events as lines, newest first; enrolments in a row are one line, so that none has a time.

    Args:
        events: the events, oldest first.
        most: how many lines.
        said: event -> how it is marked, and its sentence; None: those of a server.
    """
    lines: list[LogLine] = []
    enrolled = 0
    for event in events:
        if event["event"] == "enrolled":
            enrolled += 1
            day = f"{str(event['at'])[:10]}"
            line = LogLine(day, GOOD, "enrolled", f"{_count(enrolled, 'device')} enrolled")
            lines = [*lines[:-1], line] if enrolled > 1 else [*lines, line]
            continue
        enrolled = 0
        lines.append(_line(event, _SAID if said is None else said))
    return lines[::-1][:most]


def _line(event: Mapping[str, Any], said: Mapping[str, tuple[str, Says]]) -> LogLine:
    kind = str(event["event"])
    mark, say = said.get(kind, (BAD if kind in TROUBLES else NOTE, _plainly))
    try:
        text = say(event)
    except (KeyError, TypeError, ValueError):  # an event of another version, or a line that somebody has edited
        text = _plainly(event)
    act = TROUBLES.get(kind, "")
    return LogLine(str(event["at"]), mark, kind, without_identifiers(text), act)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _plainly(event: Mapping[str, Any]) -> str:
    """An event that has no sentence here: its name, and its reason if it gives one."""
    reason = next((str(event[key]) for key in ("words", "reason", "error") if key in event), "")
    return f"{event['event']}: {reason}" if reason else str(event["event"])


def _aborted(event: Mapping[str, Any]) -> str:
    charged = "charged, and void" if event.get("charged") else "nothing was charged"
    return f"Attempt at round {event['round'] + 1} released nothing ({charged}): {told_reason(event)}"


def _round(event: Mapping[str, Any]) -> str:
    lost = event["invited"] - event["users"]
    out = f", {lost:,} dropped out" if lost > 0 else ""
    return (
        f"Round {event['round'] + 1} released: {event['users']:,} of {_count(event['invited'], 'invited device')} "
        f"are in the sum{out}, after {event['seconds']:.3g} s"
    )


def _opened(event: Mapping[str, Any]) -> str:
    what = {"survey": "A survey", "verdict": "A verdict on the last model"}.get(event.get("kind", ""), "A run")
    return f"{what} was opened, of ε {event['epsilon']:g} at δ {event['delta']:g}"


def _judged(event: Mapping[str, Any]) -> str:
    said = event.get("words") or "nothing speaks against it"
    return f"{_count(event['devices'], 'device')} judged the last model: {said}"


def _reasons(event: Mapping[str, Any]) -> str:
    found = ", ".join(f"{count:,} × {reason}" for reason, count in event.get("reasons", {}).items())
    return f"{_count(event.get('count', 1), 'request')}{f': {found}' if found else ''}"


_SAID: Mapping[str, tuple[str, Says]] = {
    "started": (NOTE, lambda event: "The server was started"),
    "serving": (GOOD, lambda event: "The ServerApp is ready for runs"),
    "stopped": (NOTE, lambda event: "The server was stopped"),
    "restarted": (BAD, lambda event: f"{part_words(event['part'])[0]} had ended, and was started again"),
    "ended": (BAD, lambda event: f"{part_words(event['part'])[0]} has ended: {event['how']}"),
    "left over ended": (NOTE, lambda event: f"{part_words(event['part'])[0]} of a former server was ended"),
    "reloaded": (NOTE, lambda event: f"{part_words(event['part'])[0]} has taken over what was renewed"),
    "clock": (BAD, lambda event: f"The machine's clock was set by {event['seconds']:,} s"),
    "opened": (NOTE, _opened),
    "gathered": (NOTE, lambda event: f"A cohort of {_count(event['invited'], 'device')} is there ({event['kind']})"),
    "round": (GOOD, _round),
    "aborted": (BAD, _aborted),
    "lost": (BAD, lambda event: f"The ServerApp ended in a charged attempt at round {event['round'] + 1}: it is void"),
    "closed": (
        NOTE,
        lambda event: f"The run was closed with {event['releases']} of {_count(event['rounds'], 'round')} released",
    ),
    "published": (GOOD, lambda event: f"Model version {event['version']} was published"),
    "resumed": (NOTE, lambda event: f"Training goes on after {_count(event['count'], 'charge')} without a release"),
    "items added": (
        GOOD,
        lambda event: f"Model version {event['version']} has all {_count(event['count'], 'item')} of the new list",
    ),
    "items refused": (BAD, lambda event: f"The list of items can't be published: {event['reason']}"),
    "held": (BAD, lambda event: f"A model is held back: {event['reason']}"),
    "refused": (BAD, lambda event: f"No run is opened: {event['reason']}"),
    "judged": (NOTE, _judged),
    "quarantined": (
        BAD,
        lambda event: (
            f"{_count(len(event['items']), 'item')} that devices' verdict says are pushed "
            f"{'is' if len(event['items']) == 1 else 'are'} left out of the next {_count(event['runs'], 'training')}"
            f"{f'; {len(doubtful)} of them named and not proved' if (doubtful := event.get('unproved')) else ''}"
        ),
    ),
    "verdict refused": (BAD, lambda event: f"No devices judge the model: {event['reason']}"),
    "survey refused": (BAD, lambda event: f"The survey of the week of {event['week']} is left out: {event['reason']}"),
    "no cohort": (BAD, lambda event: f"No cohort: {told_reason(event)}"),
    "silent": (NOTE, lambda event: f"{_count(event['devices'], 'invited device')} said nothing, and are passed over"),
    "malformed": (NOTE, lambda event: f"{_count(event['devices'], 'device')} sent what can't be read"),
    "unsigned": (NOTE, lambda event: f"{_count(event['devices'], 'device')} sent what they haven't signed"),
    "named": (NOTE, lambda event: f"{_count(event['devices'], 'device')} signed what is false, and are shut out"),
    "unwitnessed": (BAD, lambda event: f"The witness folder can't be written: {event['reason']}"),
    "witnessed": (GOOD, lambda event: "The witness folder can be written again"),
    "uncosigned": (BAD, lambda event: f"Too few witnesses: {event['reason']}"),
    "cosigned": (GOOD, lambda event: "Enough witnesses cosign the ledger again"),
    "unmirrored": (BAD, lambda event: f"The ledger's public mirror can't be written: {event['reason']}"),
    "enrolment refused": (NOTE, lambda event: f"Enrolment refused: {_reasons(event)}"),
    "enrolment failed": (BAD, lambda event: f"Enrolment failed: {_reasons(event)}"),
    "failed": (BAD, lambda event: f"The ServerApp ended: {event['kind']}: {event['error']}"),
    "console refused": (NOTE, lambda event: f"Wrong passwords for this page: {_reasons(event)}"),
}
"""Event -> how it is marked, and its sentence."""
