"""Everything that leaves beside the noised numbers is the same, whatever one user did.

Two runs of the production path differ in one user's events. Everything that a node or the server sends, writes, logs or
reports is compared. Whatever is made from a release must follow from its sealed bytes alone: a restarted coordinator,
which has nothing else, must have the same model and make the same next plan.

**Assumes:** timing is not protected, and was left out, as were hashes of noised numbers.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np

from mechanism.checks.sensitivity import all_probes, others
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun, steps_of
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions
from palate_common.models.model import read_metadata
from palate_common.rounds.wire import REFUSED
from palate_core.errors import PalateError
from palate_core.plan import SignedPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

TEST = "side outputs"
USERS, SUBJECT = 8, 5
SETTINGS = {
    "central, a node of four": Setting(rounds=2),
    "distributed, a device a node": Setting(mode=DISTRIBUTED, users_per_node=1, rounds=2),
    "local": Setting(mode=LOCAL, users_per_node=1, rounds=2),
    "distributed, masks": Setting(mode=DISTRIBUTED, users_per_node=1, rounds=2, masks=True),
}
ACTS = (
    "one coordinate at the bound",
    "huge: 1e30",
    "huge: 1e308, everywhere",
    "NaN beside huge",
    "infinite in the rows",
    "thirty events",
    "one row a hundred times",
    "an algorithm that fails",
    "the square, huge",
)
FIRST = ("huge: 1e30", "NaN beside huge", "thirty events")
"""The cases of the quick battery; the settings take turns with the others."""
MASKED_FIRST = FIRST[-1:]
"""The same under masks, which take longest."""
PACKAGES = ("palate_core", "palate_common", "palate_client", "palate_server", "palate_sim")
LEARNER = {"rounds": 3, "popularity_only_below": 0, "embedding_size": 4}
HASH = re.compile(r"\b[0-9a-f]{64,}\b")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.\d]*)(?:\+00:00)?")
LATER = {"model_hash", "plan_hash", "release_hash", "expires", "created", "time"}
"""Keys whose values follow from a noised number's hash, or from the clock."""

Seen = dict[str, Any]


def side_outputs(*, quick: bool = False, turns: bool = True) -> list[Finding]:
    """Every setting with every kind of behaviour, and a real learning algorithm with one user's events emptied.

    Args:
        quick: the first kinds alone.
        turns: with the others, two settings take turns, and two.
    """
    found = []
    for turn, (name, setting) in enumerate(SETTINGS.items()):
        acts = [*(MASKED_FIRST if quick and setting.masks else FIRST)]
        others = [act for act in ACTS if act not in FIRST]
        acts += [act for place, act in enumerate(others) if not quick and (not turns or (place + turn) % 2)]
        probes = all_probes(setting)
        worlds = {"no events": _gestured(setting, []), **{act: _gestured(setting, probes[act]) for act in acts}}
        found.append(_compared(f"{TEST}: {name}", worlds))
    if not quick:
        learner = Setting(algorithm="als", settings=LEARNER, users_per_node=16, clip_norm=1.0, epsilon=20.0)
        found.append(_compared(f"{TEST}: als", {"no events": _learned(learner, 0), "events": _learned(learner, 1)}))
    return found


def _compared(test: str, worlds: dict[str, Seen | str]) -> Finding:
    """The first difference between two runs, if any."""
    for act, seen in worlds.items():
        if isinstance(seen, str):
            return Finding.checked(test, False, f"a run must end whatever one user did, got with `{act}`: {seen}")
        if seen["beyond the release"]:
            said = f"what follows a release must follow from its sealed bytes, got {seen['beyond the release'][0]}"
            return Finding.checked(test, False, said, act=act)
    base: Seen = worlds["no events"]  # type: ignore[assignment]  # no error: it was looked for
    for act, seen in worlds.items():
        for where in base:
            if seen[where] != base[where]:  # type: ignore[index]
                said = f"{where} tell whether one user did `{act}`: {difference(base[where], seen[where])}"  # type: ignore[index]
                return Finding.checked(test, False, said, act=act, where=where)
    return Finding.checked(test, True, f"{len(base)} kinds of side output, the same in {len(worlds)} worlds")


def difference(one: Any, other: Any) -> str:
    """Where two values differ, in one line."""
    lines = [json.dumps(each, default=str, sort_keys=True) for each in (one, other)]
    start = next((at for at, (a, b) in enumerate(zip(*lines, strict=False)) if a != b), min(map(len, lines)))
    return " against ".join(repr(line[max(0, start - 30) : start + 60]) for line in lines)


def _gestured(setting: Setting, gestures: Sequence[Any]) -> Seen | str:
    """The outputs of a run in which the subject makes some gestures."""
    script = [*others(setting), *gestures]
    acts = [[user % 3] for user in range(USERS)]
    acts[SUBJECT] = list(range(3, len(script)))
    return observed(setting, crowd(acts, n_items=64), script)


def _learned(setting: Setting, events: int) -> Seen | str:
    """The outputs of a run that trains, with one user's events or without."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 31)
    acts = [rng.choice(30, rng.integers(1, 12), replace=False, p=odds / odds.sum()).tolist() for _ in range(40)]
    # Items that no other user has: raw counts would reveal them.
    acts[SUBJECT] = list(range(25, 30)) if events else []
    return observed(setting, crowd(acts, n_items=30), ())


def observed(setting: Setting, histories: Interactions, script: Sequence[Any]) -> Seen | str:
    """One run, and all of its outputs."""
    try:
        with heard() as said, probe_run(setting, histories, script) as stage:
            beyond = []
            while not stage.coordinator.finished:
                stage.play(rounds=1)
                beyond += _beyond(stage)
            return collected(stage, said, beyond)
    except PalateError as error:
        return str(error)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Log lines of all levels, and printed text."""
    said: list[str] = []
    root, printed = logging.getLogger(), io.StringIO()
    handler = logging.Handler()
    handler.emit = lambda record: said.append(f"{record.name} {record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    loggers = [root, *map(logging.getLogger, PACKAGES)]
    levels = [each.level for each in loggers]
    root.addHandler(handler)
    for each in loggers:
        each.setLevel(logging.DEBUG)
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield said
    finally:
        said += printed.getvalue().splitlines()
        root.removeHandler(handler)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _beyond(stage: WatchedRun) -> list[str]:
    """State of the server after a release that doesn't follow from its sealed bytes."""
    live = stage.coordinator
    stage.restart()
    again = stage.coordinator
    found = []
    if live.model.hash != again.model.hash:
        found.append(f"another model after round {live.round - 1} than a restarted server's")
    if live.round != again.round:
        found.append(f"another round, {live.round}, than a restarted server's, {again.round}")
    elif live.terms != again.terms:
        found.append(f"other terms after round {live.round - 1} than a restarted server's")
    elif live.round < live.rounds:
        layouts = [each.algorithm.layout(each.model.state, each.round) for each in (live, again)]
        if layouts[0] != layouts[1]:
            found.append(f"another layout of round {live.round} than a restarted server's")
    return found


def collected(stage: WatchedRun, said: Sequence[str], beyond: list[str]) -> Seen:
    """All outputs, without differences due to noise and the clock."""
    plans, users = stage.seen.plans, range(stage.histories.n_users)
    return {
        "beyond the release": beyond,
        "answers": {f"{place}": [outside(answer) for answer in got] for place, got in stage.seen.replies.items()},
        "plans": [plain(plan.plan.model_dump(mode="json")) for plan in plans],
        "charges": [_charge(plan) for plan in plans],
        "participation": [vars(release.participation) for release in stage.releases],
        "log lines": [scrubbed(line.replace(str(stage.folder), "")) for line in said],
        "ledger entries": [plain(entry.body) for entry in stage.ledger.entries()],
        "devices' ledgers": [[plain(vars(each)) for each in stage.devices.receipts(user)] for user in users],
        "files": {name: _file(name, data) for name, data in stage.files().items()},
    }


def outside(answer: bytes | None) -> Any:
    """The parts of an answer beside its numbers: its size, and its header where it has one."""
    if answer is None or answer == REFUSED:
        return None if answer is None else "refused"
    length = int.from_bytes(answer[:4], "big")
    try:
        header = json.loads(answer[4 : 4 + length])
    except ValueError:
        header = None
    return {"bytes": len(answer), "header": plain(header) if isinstance(header, dict) else header}


def _charge(signed: SignedPlan) -> Any:
    """A plan's statement of its charge, without hashes."""
    if signed.charge is None:
        return None
    charge = signed.charge
    proofs = {str(size): len(proof) for size, proof in charge.consistency.items()}
    return {"entry": plain(charge.entry), "size": charge.checkpoint.size, "proofs": proofs}


def _file(name: str, data: bytes) -> Any:
    """The parts of a file beside its noised numbers: of a release, its shape and header."""
    if name.startswith("releases/") and name.endswith(".safetensors"):
        return {"bytes": len(data), "steps": steps_of(data).shape, "says": plain(read_metadata(data))}
    text = data.decode("utf-8", "backslashreplace")
    return scrubbed(text) if len(text) < 2**16 else len(data)


def plain(fields: Any) -> Any:
    """Fields without hashes and clocks."""
    if isinstance(fields, dict):
        return {name: plain(value) for name, value in fields.items() if name not in LATER}
    if isinstance(fields, list | tuple):
        return [plain(value) for value in fields]
    return scrubbed(fields) if isinstance(fields, str) else fields


def scrubbed(text: str) -> str:
    """A text without hashes, signatures and times."""
    return MOMENT.sub("#", HASH.sub("#", text))
