"""F, answers: what a server does with an answer that no honest node sends.

The production path clips on the device, so that an honest node never shows whether the server looks, too. Here one
node's answer to the open attempt is another: longer than its clip norm, of another attempt, or no answer at all. It
must cost that node its place, and leave the sum as if the node were not there, to the step.

**Assumes:** a node says truly how many installations it sums: nobody but those can tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.probe_algorithm import PLAIN, Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run
from palate_common.errors import PalateError
from palate_common.mechanism.update import Int64
from palate_common.records.canonical import canonical_json
from palate_common.rounds.plan import DpMode, RoundPlan, SignedPlan

TEST = "F answers"
USERS, LIAR = 6, 2
SETTINGS = {
    "central": Setting(rounds=2, users_per_node=1),
    "distributed": Setting(rounds=2, users_per_node=1, dp=DpMode.DISTRIBUTED, lost=2),
    "local": Setting(rounds=2, users_per_node=1, dp=DpMode.LOCAL),
}

Forge = Callable[[RoundPlan, bytes, bytes], bytes]
"""From the plan, the honest answer to it and the honest one to the attempt before."""


def answers() -> list[Finding]:
    """Every forged answer, in every mode."""
    return [_found(name, setting) for name, setting in SETTINGS.items()]


def _found(name: str, setting: Setting) -> Finding:
    """The first answer that gets through, if any."""
    test, forged = f"{TEST}: {name}", dict(_forged(setting.dp))
    try:
        without, _ = _closed(setting, None)
        for what, forge in forged.items():
            total, place = _closed(setting, forge)
            if place != (USERS - 1, 1) or not np.array_equal(total, without):
                return Finding.checked(test, False, f"an answer that is {what} is in the sum, or changes it")
    except PalateError as error:
        return Finding.checked(test, False, f"one node's answer must not end a round, got: {error}")
    return Finding.checked(test, True, f"{len(forged)} answers that no honest node sends, each left out")


def _closed(setting: Setting, forge: Forge | None) -> tuple[Int64, tuple[int, int]]:
    """The second release, and how many are in it, and how many answers were none; without the liar if None."""
    script = [Gesture(plain=np.eye(PLAIN)[place]) for place in range(PLAIN)]
    with probe_run(setting, crowd([[user] for user in range(USERS)], n_items=PLAIN), script) as stage:
        stage.play(rounds=1)
        before = stage.seen.replies[0, 0, LIAR][0] or b""
        asked = stage.coordinator.open_attempt()
        plan = SignedPlan.model_validate_json(asked).plan
        replies = {node: stage.host.answer(node, asked, stage.coordinator.model.data) for node in range(USERS)}
        honest = replies.pop(LIAR)
        if forge is not None:
            replies[LIAR] = forge(plan, honest, before)
        taken = stage.coordinator.close_attempt(replies).participation
        return stage.sealed(1), (taken.users, taken.malformed_nodes)


def _forged(dp: DpMode) -> Iterator[tuple[str, Forge]]:
    """Each by what is wrong with it."""
    yield "of the attempt before", lambda plan, honest, before: before
    for name, value in (("run", "another"), ("round", 7), ("attempt", 7), ("plan_hash", "0" * 64), ("version", 2)):
        yield f"of another {name}", lambda plan, honest, before, n=name, v=value: _with(honest, **{n: v})  # type: ignore[misc]
    yield "of nobody", lambda plan, honest, before: _with(honest, users=0)
    yield (
        "one number longer",
        lambda plan, honest, before: _with(honest + honest[-4:], size=_header(honest)["size"] + 1),
    )
    yield "cut off", lambda plan, honest, before: honest[:-1]
    yield "empty", lambda plan, honest, before: b""
    yield "no record", lambda plan, honest, before: b"\xff" * len(honest)
    if dp is DpMode.CENTRAL:
        yield "one step above the clip norm", lambda plan, honest, before: _numbers(honest, first=plan.grid + 1)
        yield (
            "at the clip norm everywhere",
            lambda plan, honest, before: _numbers(honest, rest=plan.grid, first=plan.grid),
        )
        yield "as large as numbers go", lambda plan, honest, before: _numbers(honest, first=-(2**31))
    elif dp is DpMode.LOCAL:
        yield "longer than clip and noise", lambda plan, honest, before: _numbers(honest, first=2**31 - 1)
        yield "without a clip", lambda plan, honest, before: _numbers(honest, first=20 * (plan.grid + plan.sigma))
    else:
        yield "beyond the modulus", lambda plan, honest, before: _numbers(honest, first=2 ** (plan.modulus_bits - 1))


def _header(answer: bytes) -> dict[str, Any]:
    """What an answer says about itself."""
    header: dict[str, Any] = json.loads(answer[4 : 4 + int.from_bytes(answer[:4], "big")])
    return header


def _with(answer: bytes, **fields: Any) -> bytes:
    """The same numbers under another header."""
    text = canonical_json(_header(answer) | fields)
    return len(text).to_bytes(4, "big") + text + answer[4 + int.from_bytes(answer[:4], "big") :]


def _numbers(answer: bytes, *, first: int, rest: int = 0) -> bytes:
    """Other numbers, in as many bytes as the honest ones."""
    start, size = 4 + int.from_bytes(answer[:4], "big"), _header(answer)["size"]
    numbers = np.full(size, rest, np.int64)
    numbers[0] = first
    return answer[:start] + numbers.astype(f"<i{(len(answer) - start) // size}").tobytes()
