"""Messages: the journal of what a device sent, refused and took into use; and files of events, in and out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any
from unittest import mock

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.clocks import MadeClock
from palate_audit.answers.made.folders import made_folder
from palate_audit.answers.made.stores import ITEMS, NOW, made_disk, made_store, tell_store
from palate_audit.answers.made.telling import as_text, tables_as_text, tell_refusal, tell_text
from palate_audit.answers.seam import Seam
from palate_client import portability
from palate_client.consent import Consent
from palate_client.events import KINDS, Event
from palate_client.store import journal
from palate_client.store.journal import Contact, Edition, Journal, Opened, Refusal, Sent, note_refusal, reason_of
from palate_client.store.retention import DAY, Limits
from palate_core.errors import InputError


def _journal(dice: Dice, answer: CaseAnswer) -> None:
    """Messages, refusals, models, contacts and secrets of many runs."""
    with made_folder(answer) as path, made_disk(), ExitStack() as stack:
        stack.enter_context(mock.patch.object(journal, "KEPT", dice.one_of((2, 5, 1000))))
        clock = MadeClock(NOW)
        events = stack.enter_context(made_store(path / "s", clock))
        one = Journal(events.file)
        steps = 3 * ("adopt", "adopt", "record", "refuse", "meet", "open", "keep", "secret") + ("note", "again")
        for _ in range(dice.whole(20, 36)):
            match dice.one_of(steps):
                case "adopt":
                    version = dice.whole(1, 3)
                    edition = Edition(dice.one_of(("readers", "listeners")), version, f"root{dice.whole(0, 1)}",
                                      f"m{dice.whole(0, 1)}", clock())  # fmt: skip
                    files = {each: dice.bytes(3) for each in dice.some_of("abc")}
                    tell_text(answer, one.adopt, edition, files)
                    answer.tell(as_text(one.files()))
                case "record":
                    what, dp = dice.one_of(("contribution", "input")), dice.one_of(("off", "local"))
                    run, round_, attempt, size = (int(each) for each in dice.wholes(0, 70, 4))
                    one.record(Sent(what, dp, f"r{run}", round_, attempt, size, clock()))
                case "refuse":
                    one.refuse(
                        Refusal(dice.one_of(("plan", "model")), "x" * dice.one_of((1, 999, 1000, 1001)), clock())
                    )
                case "meet":
                    one.meet(
                        Contact(clock(), "time", "y" * dice.one_of((0, 1000, 1001)), *map(int, dice.wholes(0, 99, 4)))
                    )
                case "open":
                    one.open_log(Opened(clock(), dice.whole(0, 9), dice.one_of("12")))
                case "keep":
                    one.keep(dice.one_of("ab"), dice.bytes(4))
                case "secret":
                    answer.tell(one.secret(dice.one_of("abc"), dice.bytes(4)))
                case "note":
                    note_refusal(events, "model", f"reason {dice.whole(0, 9)}")
                case "again":
                    one.close()
                    tell_refusal(answer, one.sent)
                    one = Journal(events.file)
            clock.now += dice.one_of((0.0, 0.5, -9.0, DAY))
        for read in (one.editions, one.files, one.sent, one.refusals, one.contacts, one.opened):
            answer.tell(as_text(read()))
        answer.tell([one.kept(name) for name in "abcd"])
        with one._database.transaction() as connection:
            answer.tell(tables_as_text(connection, "files", "models", "sent", "refusals", "secrets", "contacts"))
        one.close()
    for error in (InputError("two\n lines  7"), ValueError("x" * 300), OSError(2, "none")):
        answer.tell(as_text(reason_of(error)))


def _line(dice: Dice) -> bytes:
    """A line of a file that somebody imports."""
    own = dice.one_of((*portability.OWN, "event", "wave", None))
    good = {
        "kind": dice.one_of(KINDS),
        "item": dice.one_of(ITEMS),
        "time": dice.one_of((5, NOW, NOW + 9, "2026-02-03")),
    }
    if good["kind"] == "rate":
        good["value"] = dice.whole(1, 5)
    known = {**good, "id": dice.one_of(("i1", f"i{dice.whole(2, 9)}"))}
    lines: tuple[Any, ...] = (good, good, known, known, {"type": "event", **good}, {"type": own, **known},
                              {"palate": "export", "format": dice.one_of((1, 1, 2, None))},
                              {"palate": "export", "type": "event", "format": 1}, {"kind": "like"}, [], 7)  # fmt: skip
    text = json.dumps(dice.one_of(lines)).encode()
    raw = (b"", b"  \t\r", b"\xef\xbb\xbf", b"\xef\xbb\xbf" + text, b"{", b'{"item": NaN}', b"\xff", b"[" * 99999,
           text.ljust(400), text.ljust(401), text.ljust(399), b"z" * 900)  # fmt: skip
    return text if dice.chance(0.7) else dice.one_of(raw)


def _import(dice: Dice, answer: CaseAnswer) -> None:
    """Files in and out."""
    limits = (("BATCH", dice.one_of((2, 3, 25))), ("CHECKPOINT", dice.one_of((3, 100))),
              ("MOST_PROBLEMS", dice.one_of((3, 6, 1000))), ("MAX_LINE", dice.one_of((400, 2**16))))  # fmt: skip
    with made_folder(answer) as path, made_disk(), ExitStack() as stack:
        for name, value in limits:
            stack.enter_context(mock.patch.object(portability, name, value))
        clock = MadeClock(dice.one_of((NOW, 1000.0)))
        events = stack.enter_context(made_store(path / "s", clock, Limits(max_per_day=3)))
        if dice.chance(0.85):
            Consent(events).grant("store")
        Consent(events).grant("panel", version="ü")
        if dice.chance(0.5):
            events.add([Event("rate", "ü", value=4, props={"a": "ü"})] * 2)
            events.reset()
        with events.transaction(write=True) as connection:
            more = [("shown popularity", 3.5), ("liked popularity", 1.0), ("first", 77.25)]
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", dice.some_of(more[:2], 1.0) + dice.some_of(more[2:])
            )
        for name in ("one", "two"):
            found = [_line(dice) for _ in range(dice.whole(0, 14))]
            (path / name).write_bytes(b"\n".join(found) + dice.one_of((b"", b"\n", b"\n\n\n\n\n\n")))
        for name in dice.shuffled(("one", "two", dice.one_of(("one", "none")))):
            tell_text(answer, portability.import_file, events, path / name)
        with events.transaction(write=True) as connection:
            connection.execute("UPDATE events SET kind = 'wave' WHERE seq = 2")
        lines = list(portability.export_lines(events, app="shelf"))
        answer.tell(lines)
        (path / "out").write_text("\n".join(lines), encoding="utf-8")
        tell_text(answer, portability.import_file, events, path / "out")
        tell_store(answer, events)


SEAMS: tuple[Seam, ...] = (
    Seam("journal: messages, models, refusals and secrets of many runs", _journal, 12),
    Seam("events: files in and out", _import, 12),
)
