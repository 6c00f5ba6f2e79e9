"""Every user who takes part is in the sum exactly once; nobody else is, and no forged answer is.

Every user puts the same amount on a coordinate of its own. The noise is that of a run in which no user is active, so
the difference of the two runs shows how often each user is in the sum. Answers are lost, delivered twice, and come
from nodes of one device and of a thousand.

Users of one node have spent different amounts before: who is at a limit of their own, by attempts or by cost, sits out.

The production path clips on the device, so an honest node can't show whether the server checks, too. So one node's
answer to the open attempt is replaced: by one longer than its clip norm, one of another attempt, or no answer at all.
The server must leave out that node, and the sum must be exactly that without the node. Where devices add the noise, a
node's numbers can't be held to a clip norm, but their sum is one that so many devices can make, or the attempt is void:
charged, not sealed, and nothing is learned from it.

**Assumes:** a seeded source goes through the code that a secure one goes through. A node states truly how many
installations it sums: only they can know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from plans import kept_plan

from mechanism.harness.probe_algorithm import PLAIN, WEIGHTS, Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import REFUSED
from palate_core.errors import IntegrityError, PalateError
from palate_core.log.canonical import canonical_json
from palate_core.plan import RoundPlan, SignedPlan
from palate_core.privacy_mode import CENTRAL, DISTRIBUTED, LOCAL, PrivacyMode
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

TEST = "inclusion"
SHARE = 0.9
"""Each user's contribution, as a share of the clip norm."""
USERS, CROWD = 12, 1000
SPENT, BEFOREHAND, MUCH = (1, 4, 5, 6, 7), 3, 1000.0
"""Users who have taken part before, one of the first node and all of the second, how often, and at which cost."""
LIMITED: Mapping[str, Mapping[str, Any]] = {
    "by attempts": {"max_participations": BEFOREHAND},
    "by cost": {"limit_mu2": BEFOREHAND * MUCH},
}


@dataclass(frozen=True)
class Attendance:
    """Which nodes answer, and whose answer is delivered twice."""

    setting: Setting
    users: int = USERS
    absent: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()


_ALL = Setting(rounds=3)
_OWN = Setting(rounds=2, users_per_node=1)
_SHARED = Setting(rounds=2, mode=DISTRIBUTED, users_per_node=1, lost=4)
CASES = {
    "central": Attendance(_ALL),
    "central, a node lost": Attendance(_ALL, absent=(2,)),
    "central, answers twice": Attendance(_OWN, repeated=(0, 3, 7, 11)),
    "distributed": Attendance(_SHARED),
    "distributed, devices lost and answers twice": Attendance(_SHARED, absent=(4, 9), repeated=(0, 3)),
    "local, devices lost and answers twice": Attendance(
        Setting(rounds=2, mode=LOCAL, users_per_node=1), absent=(4, 9), repeated=(0, 3)
    ),
    "masks": Attendance(Setting(mode=DISTRIBUTED, users_per_node=1, masks=True, lost=4)),
    "masks, devices lost": Attendance(
        Setting(mode=DISTRIBUTED, users_per_node=1, masks=True, lost=4), absent=(4, 9, 11)
    ),
    "a thousand on one node": Attendance(Setting(users_per_node=CROWD), users=CROWD),
    "a thousand on one node, distributed": Attendance(Setting(mode=DISTRIBUTED, users_per_node=CROWD), users=CROWD),
}
FIRST = (
    "central",
    "central, answers twice",
    "distributed, devices lost and answers twice",
    "local, devices lost and answers twice",
    "a thousand on one node",
)
"""The cases of the quick battery."""


def inclusion(*, quick: bool = False) -> list[Finding]:
    """How often each user is in each release, in every case; and what happens to forged answers."""
    found = [_found(name, case) for name, case in CASES.items() if not quick or name in FIRST]
    return [*found, at_limits(), *answers(quick=quick), impossible(), too_few()]


def _found(name: str, case: Attendance) -> Finding:
    """One case: the releases, the count that is published, and the receipts on the devices."""
    test, setting = f"{TEST}: {name}", case.setting
    try:
        everybody, some, idle = (_played(case, acting) for acting in (range(case.users), range(0, case.users, 2), ()))
    except (PalateError, KeyError) as error:
        return Finding.checked(test, False, f"the run must end, got: {error}")
    present = [user for user in range(case.users) if user // setting.users_per_node not in case.absent]
    asked = [user for user in present if user < USERS]
    for world, acting in ((everybody, present), (some, [user for user in present if user % 2 == 0])):
        for round_ in range(setting.rounds):
            wrong = _miscounted(world["releases"][round_] - idle["releases"][round_], acting, setting)
            if wrong:
                said = f"round {round_}, {len(acting)} of {len(present)} users have events: {wrong}"
                return Finding.checked(test, False, said)
    for world in (everybody, some, idle):
        if world["again"]:
            said = f"a device must answer an attempt once, {len(world['again'])} nodes have answered it anew"
            return Finding.checked(test, False, said)
        if world["users"] != [len(present)] * setting.rounds:
            said = f"{len(present)} users are there, {world['users']} are said to be in the sums"
            return Finding.checked(test, False, said)
        if world["receipts"] != {(user, round_, 0): 1 for user in asked for round_ in range(setting.rounds)}:
            return Finding.checked(test, False, "each device must have each attempt on record once")
    return Finding.checked(test, True, f"each of {len(present)} users once in each of {setting.rounds} releases")


def at_limits() -> Finding:
    """Of the users of a node some have reached a limit of their own: they are in no sum, and aren't charged."""
    test = f"{TEST}: users at their limit"
    for name, limits in LIMITED.items():
        for mode in (CENTRAL, DISTRIBUTED):
            case = Attendance(Setting(mode=mode, rounds=2, lost=len(SPENT) if mode.cohort else 0))
            try:
                everybody, idle = (_played(case, acting, limits) for acting in (range(USERS), ()))
            except (PalateError, KeyError) as error:
                return Finding.checked(test, False, f"the run must end, got: {error}")
            joined = [user for user in range(USERS) if user not in SPENT]
            for round_ in range(2):
                wrong = _miscounted(everybody["releases"][round_] - idle["releases"][round_], joined, case.setting)
                if wrong or everybody["users"][round_] != len(joined):
                    said = wrong or f"{everybody['users'][round_]} users are said to be in the sum"
                    return Finding.checked(
                        test, False, f"{len(joined)} of {USERS} users are below a limit {name}: {said}"
                    )
            mine = {user for user, *_ in everybody["receipts"]}
            if mine != {*joined}:
                return Finding.checked(
                    test, False, f"users {joined} are below a limit {name}, {sorted(mine)} are charged"
                )
    return Finding.checked(test, True, f"{len(SPENT)} of {USERS} users sit out, the others take part")


def _miscounted(sums: Int64, acting: Collection[int], setting: Setting) -> str:
    """How a noiseless sum differs from one equal share for each user with events; "" if it doesn't."""
    counts = np.bincount([user % PLAIN for user in acting], minlength=len(sums))
    most, least = int(SHARE * setting.grid), int(SHARE * setting.grid) - 2
    first = int(np.argmax(counts > 0))
    one = sums[first] / counts[first]
    if not least <= one <= most:
        return f"a user's share is {one:.1f} steps in the sum, {most} went in"
    wrong = np.flatnonzero(sums != one * counts)
    if len(wrong):
        times = sums[wrong[0]] / one
        return f"coordinate {wrong[0]} holds {times:.3f} shares, {counts[wrong[0]]} put one there"
    return ""


def _played(case: Attendance, acting: Collection[int], limits: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run one case in which some users have events; with limits, some users have reached theirs before."""
    amount = SHARE * case.setting.clip_norm / WEIGHTS["plain"]
    script = [Gesture(plain=amount * np.eye(PLAIN)[place]) for place in range(PLAIN)]
    # Different numbers of events: user u has its gesture and u % 3 idle ones.
    script += [Gesture(), Gesture()]
    items = [[user % PLAIN, *range(PLAIN, PLAIN + user % 3)] if user in acting else [] for user in range(case.users)]
    with ExitStack() as stack:
        stage = stack.enter_context(probe_run(case.setting, crowd(items, n_items=len(script)), script))
        if limits is not None:
            stage.devices = stack.enter_context(SimulatedLedger(":memory:", **limits))
            stage.host = replace(stage.host, ledger=stage.devices)
            for round_ in range(BEFOREHAND):
                kept = kept_plan(round_, run="former", mu2=MUCH)
                stage.devices.charge(kept, n_bytes=1, purpose="train", devices=SPENT)
        stage.play(absent=case.absent, repeated=case.repeated)
        return {
            "releases": [stage.sealed(round_) for round_ in range(case.setting.rounds)],
            "again": _again(stage, range(-(-case.users // case.setting.users_per_node))),
            "users": [release.participation.users for release in stage.releases],
            "receipts": Counter(
                (user, receipt.round, receipt.attempt)
                for user in range(min(case.users, USERS))
                for receipt in stage.devices.receipts(user)
                if receipt.run == stage.terms.run
            ),
        }


def _again(stage: WatchedRun, nodes: range) -> list[int]:
    """Nodes that give another answer when asked a second time, which would be a second release of theirs."""
    plan, model = stage.seen.asked
    latest = stage.releases[-1].plan
    if stage.directory_of is not None:
        return []  # the tests of masked attempts cover this
    answered = [node for node in nodes if (latest.round, latest.attempt, node) in stage.seen.replies]
    return [node for node in answered if stage.host.answer(node, plan, model) != REFUSED]


ANSWERS = "answers"
ANSWERING, LIAR = 4, 2
BEFORE = "of the attempt before"
"""The one forged answer that needs a round before."""
FORGED_IN = {
    "central": Setting(rounds=2, users_per_node=1),
    "distributed": Setting(rounds=2, users_per_node=1, mode=DISTRIBUTED, lost=1),
    "local": Setting(rounds=2, users_per_node=1, mode=LOCAL),
}

Forge = Callable[[RoundPlan, bytes, bytes], bytes]
"""(plan, honest answer to it, honest answer to the attempt before) -> forged answer."""


def answers(*, quick: bool = False) -> list[Finding]:
    """All forged answers, in every mode; in the quick form modes take turns with them."""
    turns = len(FORGED_IN) - 1 if quick else 1
    return [
        _answers_of(name, setting, number % turns, turns) for number, (name, setting) in enumerate(FORGED_IN.items())
    ]


def _answers_of(name: str, setting: Setting, first: int, turns: int) -> Finding:
    """The first forged answer that the server accepts, if any, of one in so many."""
    test, forged = f"{ANSWERS}: {name}", dict(list(_forged(setting.mode))[first::turns])
    try:
        without = [_closed(setting, None, round_=round_)[0] for round_ in range(2)]
        for what, forge in forged.items():
            round_ = int(what == BEFORE)
            total, place = _closed(setting, forge, round_=round_)
            if place != (ANSWERING - 1, 1) or not np.array_equal(total, without[round_]):
                return Finding.checked(test, False, f"an answer that is {what} is in the sum, or changes it")
    except PalateError as error:
        return Finding.checked(test, False, f"one node's answer must not end a round, got: {error}")
    return Finding.checked(test, True, f"{len(forged)} answers that no honest node sends, each left out")


def _closed(setting: Setting, forge: Forge | None, *, round_: int) -> tuple[Int64, tuple[int, int]]:
    """A round's release, with its counts of users and of malformed nodes; without the forging node if None."""
    script = [Gesture(plain=np.eye(PLAIN)[place]) for place in range(PLAIN)]
    with probe_run(setting, crowd([[user] for user in range(ANSWERING)], n_items=PLAIN), script) as stage:
        stage.play(rounds=round_)
        before = (stage.seen.replies[0, 0, LIAR][0] or b"") if round_ else b""
        asked = stage.coordinator.open_attempt()
        plan = SignedPlan.model_validate_json(asked).plan
        replies = {node: stage.host.answer(node, asked, stage.coordinator.model.data) for node in range(ANSWERING)}
        honest = replies.pop(LIAR)
        if forge is not None:
            replies[LIAR] = forge(plan, honest, before)
        taken = stage.coordinator.close_attempt(replies).participation
        return stage.sealed(round_), (taken.users, taken.malformed_nodes)


def impossible() -> Finding:
    """Whether sums that nobody can have made are void, by what one node sends; and one that they can is released."""
    test, setting = f"{ANSWERS}: impossible sums", FORGED_IN["distributed"]
    # Of four devices: one sends more than the others could make up for, or puts more than noise on a dummy.
    forged: dict[str, Forge] = {
        "as large as the modulus bears": lambda plan, honest, before: _numbers(
            honest, first=2 ** (plan.bits(1) - 1) - 1
        ),
        "as low": lambda plan, honest, before: _numbers(honest, first=-(2 ** (plan.bits(1) - 1))),
        "large on a dummy": lambda plan, honest, before: _numbers(honest, first=0, last=24 * plan.share_sigma),
    }
    try:
        for what, forge in forged.items():
            if not _is_void(setting, forge):
                said = f"a sum with a node's answer that is {what} was released: no devices can have made it"
                return Finding.checked(test, False, said)
        if _is_void(setting, lambda plan, honest, before: _numbers(honest, first=plan.grid)):
            return Finding.checked(test, False, "a sum with a node's answer of one clip norm must be released")
    except PalateError as error:
        return Finding.checked(test, False, f"the round before must end, got: {error}")
    return Finding.checked(test, True, f"{len(forged)} sums that nobody can have made, each void and charged")


def too_few() -> Finding:
    """Whether a cohort below its floor releases nothing, by who is missing from it; and one at its floor does."""
    test = f"{ANSWERS}: too few"
    cohorts: dict[str, Forge] = {
        "a node refuses": lambda plan, honest, before: REFUSED,
        "one of a node's two has reached a limit": lambda plan, honest, before: _with(honest, users=1, rejected=1),
    }
    try:
        for mode in ("central", "local"):
            setting = replace(FORGED_IN[mode], users_per_node=2, floor=2 * ANSWERING)
            if _is_void(setting, lambda plan, honest, before: honest):
                return Finding.checked(test, False, f"a cohort at its floor must be released, {mode}")
            for what, forge in cohorts.items():
                if not _is_void(setting, forge):
                    return Finding.checked(test, False, f"a cohort below its floor is released, where {what}: {mode}")
    except PalateError as error:
        return Finding.checked(test, False, f"the round before must end, got: {error}")
    return Finding.checked(test, True, f"{len(cohorts)} cohorts, each void and charged")


def _is_void(setting: Setting, forge: Forge) -> bool:
    """Whether the second attempt ends charged, without a seal, and with the model of the first."""
    script = [Gesture(plain=np.eye(PLAIN)[place]) for place in range(PLAIN)]
    users = range(ANSWERING * setting.users_per_node)
    histories = crowd([[user % PLAIN] for user in users], n_items=PLAIN)
    with probe_run(setting, histories, script) as stage:
        stage.play(rounds=1)
        asked, model = stage.coordinator.open_attempt(), stage.coordinator.model
        plan = SignedPlan.model_validate_json(asked).plan
        replies = {node: stage.host.answer(node, asked, model.data) for node in range(ANSWERING)}
        replies[LIAR] = forge(plan, replies[LIAR], b"")
        try:
            stage.coordinator.close_attempt(replies)
        except IntegrityError:
            kinds = [entry.kind for entry in stage.ledger.entries() if entry.kind in ("charge", "seal")]
            return kinds == ["charge", "seal", "charge"] and stage.coordinator.model.hash == model.hash
        return False


def _forged(mode: PrivacyMode) -> Iterator[tuple[str, Forge]]:
    """The forged answers, by what is wrong with them."""
    yield BEFORE, lambda plan, honest, before: before
    for name, value in (("run", "another"), ("round", 7), ("attempt", 7), ("plan_hash", "0" * 64), ("version", 2)):
        yield f"of another {name}", lambda plan, honest, before, n=name, v=value: _with(honest, **{n: v})  # type: ignore[misc]
    yield "of nobody", lambda plan, honest, before: _with(honest, users=0)
    yield "of more than a node has", lambda plan, honest, before: _with(honest, rejected=1)
    yield (
        "one number longer",
        lambda plan, honest, before: _with(honest + honest[-4:], size=_header(honest)["size"] + 1),
    )
    yield "cut off", lambda plan, honest, before: honest[:-1]
    yield "empty", lambda plan, honest, before: b""
    yield "no record", lambda plan, honest, before: b"\xff" * len(honest)
    if mode.trusts_server:
        yield "one step above the clip norm", lambda plan, honest, before: _numbers(honest, first=plan.grid + 1)
        yield (
            "at the clip norm everywhere",
            lambda plan, honest, before: _numbers(honest, rest=plan.grid, first=plan.grid),
        )
        yield "as large as numbers go", lambda plan, honest, before: _numbers(honest, first=-(2**31))
    elif mode.alone:
        yield "longer than clip and noise", lambda plan, honest, before: _numbers(honest, first=2**31 - 1)
        yield "without a clip", lambda plan, honest, before: _numbers(honest, first=20 * (plan.grid + plan.sigma))
    else:
        yield "beyond the modulus", lambda plan, honest, before: _numbers(honest, first=2 ** (plan.bits(1) - 1))


def _header(answer: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(answer[4 : 4 + int.from_bytes(answer[:4], "big")])
    return header


def _with(answer: bytes, **fields: Any) -> bytes:
    """The same numbers under another header."""
    text = canonical_json(_header(answer) | fields)
    return len(text).to_bytes(4, "big") + text + answer[4 + int.from_bytes(answer[:4], "big") :]


def _numbers(answer: bytes, *, first: int, rest: int = 0, last: int | None = None) -> bytes:
    """Other numbers, in the same number of bytes."""
    start, size = 4 + int.from_bytes(answer[:4], "big"), _header(answer)["size"]
    numbers = np.full(size, rest, np.int64)
    numbers[0] = first
    numbers[-1] = rest if last is None else last
    if len(answer) - start not in (4 * size, 8 * size):
        raise IntegrityError(f"an answer of {size} numbers must have 4 or 8 bytes for each, got {len(answer) - start}")
    return answer[:start] + numbers.astype(f"<i{(len(answer) - start) // size}").tobytes()
