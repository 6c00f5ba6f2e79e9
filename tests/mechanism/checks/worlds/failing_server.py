"""What fails on the server: whatever an attempt ends with, what it leaves doesn't tell what anybody did.

A release is noise and a sum, and the sum is in the server's memory before. So every call that the coordinator and the
round make into another file is found by watching, from the charge to the model; nobody lists them. Then each of them
fails in turn: the disk is full, the lock is gone, the file is damaged; and devices stay away after others have
answered, or have sent what nobody can have made. After each failure everything is looked at: files, log lines, what was
printed, both ledgers, plans. Then the server starts again, and the round is released.

    plan -> answers -> call 1, 2 ... n -> call k fails -> look -> restart -> the next attempt -> look

All of it is the same in two worlds, of which one lacks a user's events. Noise is seeded, so that sums alone differ.
Calls are those of this audit's rounds, so that a new one is among them.

**Assumes:** what fails, fails when it is called, and says so by one of these errors.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import palate_common
import palate_server
from mechanism.checks.consent.failing_calls import Call, CallWatch, can_fail, said_of
from mechanism.checks.sensitivity import all_probes, others
from mechanism.checks.side_outputs import collected, difference, heard
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_core.errors import IntegrityError, LockedError, PalateError
from palate_core.plan import SignedPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL
from palate_server.rounds import coordinator, run

TEST = "side outputs: what fails on the server"
DEVICES, SUBJECT, ABSENT, ACT = 6, 4, (0, 1), "thirty events"
"""Devices; the one that does something or nothing; those that stay away in an attempt that comes to nothing."""
SETTINGS = {
    "central": Setting(users_per_node=1, rounds=2),
    "distributed": Setting(users_per_node=1, rounds=2, mode=DISTRIBUTED),
    "local": Setting(users_per_node=1, rounds=2, mode=LOCAL),
    "masks": Setting(users_per_node=1, rounds=2, mode=DISTRIBUTED, masks=True),
}
QUICK, OTHERS = 4, 2
"""The quick form lets one of so many calls fail; so does the whole one in modes after the first."""
CALLERS = tuple(str(each.__file__) for each in (coordinator, run))
PACKAGES = tuple(str(Path(str(each.__file__)).parent) for each in (palate_common, palate_server))
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: OSError(errno.ENOSPC, "no space left on the device"),
    lambda: LockedError("this process must own the run, and another one does"),
    lambda: IntegrityError("the file must be whole, and is damaged"),
)
"""They take turns."""


def failing_server(*, quick: bool = False) -> list[Finding]:
    """Every call in the first mode, and of those that others add every second; `quick`: one in four of the first."""
    found, met = list[Finding](), set[CodeType]()
    for name, setting in list(SETTINGS.items())[: 1 if quick else None]:
        calls = [call for call in _calls(setting) if call[0] not in met]
        met |= {call[0] for call in calls}
        turn = QUICK if quick else OTHERS if found else 1
        found.append(_compared(name, setting, [None, *calls[::turn]]))
    return found


def _compared(name: str, setting: Setting, failures: Sequence[Call | None]) -> Finding:
    """Two worlds in which the same calls fail."""
    for number, call in enumerate(failures):
        error = ERRORS[number % len(ERRORS)]
        what = said_of(call, error) if call else "too few answers"
        one, other = (_failed(setting, call, error, acts=acts) for acts in (False, True))
        if one != other:
            where = next(place for place in one if one[place] != other.get(place))
            said = f"after {what}, {where} tell what one user did: {difference(one[where], other.get(where))}"
            return Finding.checked(f"{TEST}, {name}", False, said)
    return Finding.checked(f"{TEST}, {name}", True, f"{len(failures)} failures leave the same in two worlds")


def _from_the_round(frame: FrameType) -> Call | None:
    """What the coordinator or the round calls in another file."""
    code, above = frame.f_code, frame.f_back
    if above is None or above.f_code.co_filename not in CALLERS or code.co_filename in CALLERS:
        return None
    return (code, above.f_code) if code.co_filename.startswith(PACKAGES) and can_fail(frame) else None


def _calls(setting: Setting) -> list[Call]:
    """Every call of a whole round after its plan was sent: before there is no sum."""
    sent = list[SignedPlan]()
    watch = CallWatch(lambda frame: _from_the_round(frame) if sent else None)
    with _stage(setting, acts=True) as stage, watch.noting():
        stage.grid.before = sent.append
        stage.play(rounds=1)
    return list(watch.calls)


def _stage(setting: Setting, *, acts: bool) -> WatchedRun:
    """A cohort, of which one user did something or nothing."""
    script = [*others(setting), *all_probes(setting)[ACT]]
    made = [[user % 3] for user in range(DEVICES)]
    made[SUBJECT] = list(range(3, len(script))) if acts else []
    return probe_run(setting, crowd(made, n_items=64), script)


def _failed(setting: Setting, call: Call | None, error: Callable[[], Exception], *, acts: bool) -> dict[str, Any]:
    """One attempt in which a call fails, or devices stay away; then the server starts again, and releases."""
    watch, found = CallWatch(_from_the_round), dict[str, Any]()
    with heard() as said, _stage(setting, acts=acts) as stage:
        for moment in ("the failure", "the next attempt"):
            try:
                if moment != "the failure":
                    stage.restart()
                    stage.play(rounds=1)
                elif call is None:
                    stage.play(rounds=1, absent=ABSENT)
                else:
                    with watch.failing(call, error, always=False):
                        stage.play(rounds=1)
            except (PalateError, OSError) as failure:
                found[f"what is said of {moment}"] = str(failure)
            shown = collected(stage, list(said), [])
            found |= {f"{where}, after {moment},": seen for where, seen in shown.items()}
    return found
