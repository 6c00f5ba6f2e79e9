"""Wire: contributions as bytes, what no honest node sends, and the sum of all that have arrived."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts
from palate_common.mechanism.update import ClippedSum
from palate_common.rounds import exchange, wire
from palate_common.rounds.shares import NoisyShare
from palate_common.rounds.wire import REFUSED, ContributionHeader
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.layout import BlockSpec
from palate_core.log.canonical import canonical_json
from palate_core.plan import RoundPlan, Sampling
from palate_server.rounds.aggregation import aggregate, recovered


def _plan(dice: Dice, size: int, dp: str, **changes: Any) -> RoundPlan:
    """A plan of a mode, of one block."""
    cohort = CohortTerms(n_max=dice.one_of((9, 900)), n_min=6, c_max=dice.whole(1, 5), masks=False)
    fields: dict[str, Any] = {
        "population": "readers", "run": "run-1", "round": dice.whole(0, 2), "attempt": dice.whole(0, 2),
        "model_hash": "cd" * 32, "algorithm": "popularity", "settings": {},
        "facts": PublicFacts(n_users=9, n_items=size, mu=1.0, local=dp == "local"),
        "layout": (BlockSpec(name="counts", shape=(size,), weight=1.0),),
        "clip_norm": 1.0, "grid": dice.one_of((5, 2**14, 2**20, 2**26)),
        "sigma": dice.one_of((64, 640, 2**12, 2**34)) if dp != "off" else 0, "dp": dp, "noise": "secure",
        "cohort_floor": 1,
        "per_node": dice.one_of((1, 2, 9, 2**26)), "cohort": cohort if dp == "distributed" else None, "mu2": 9.0,
        "expires": 2**31,
    }  # fmt: skip
    return RoundPlan.model_validate(fields | changes)


def _message(dice: Dice, plan: RoundPlan, size: int) -> tuple[dict[str, Any], Any]:
    """The header and the numbers of an answer to a plan: honest, at a limit, or wrong."""
    users = dice.one_of((1, 1, 1, plan.per_node, dice.whole(1, 9)))
    header: dict[str, Any] = {"version": 1, "run": plan.run, "round": plan.round, "attempt": plan.attempt}
    header |= {"plan_hash": plan.hash, "users": users, "rejected": dice.one_of((0, 0, 1, 3)), "size": size}
    bound = users * plan.grid
    numbers = dice.one_of(
        (
            [1, -2],
            [bound],
            [-bound],
            [bound, 1],
            [bound + 1],
            [4 * bound // 5, 3 * bound // 5],
            [bound] * 3,
            [bound, bound * 7 // 10**7],
            [bound, bound * 11 // 10**7],
        )
    )
    if plan.mode.noised_by_devices:
        most = 2 ** (plan.bits(users) - 1) - 1
        far = int(bound + plan.sigma * math.sqrt(users * (size + 16 * math.sqrt(size) + 128)))
        numbers = dice.one_of(([1], [most], [-most - 1], [most + 1], [-most - 2], [far], [far + 1], [-bound]))
    if dice.chance(0.3):
        name = dice.one_of(list(header))
        header[name] = dice.one_of((0, 2, -1, "run-2", "ab" * 32, 2**26, 2**26 + 1, 1.0, None, True, 10**19))
    return header, (numbers + [0] * size)[:size]


def _encoded(dice: Dice, plan: RoundPlan, header: dict[str, Any], numbers: Sequence[int]) -> bytes:
    """An answer as a node could send it."""
    users = header["users"] if isinstance(header["users"], int) and 0 < header["users"] < 2**27 else 1
    kind = wire.share_dtype(plan.bits(users)) if plan.mode.noised_by_devices else wire.dtype_for(users, plan.grid)
    text = canonical_json(header)
    fitting = [max(-(2**63), min(number, 2**63 - 1)) for number in numbers]
    data = len(text).to_bytes(4, "big") + text + np.array(fitting, np.int64).astype(kind).tobytes()
    match dice.whole(0, 19):
        case 0:
            return data[: -dice.whole(1, 9)]
        case 1:
            return data + bytes(dice.whole(1, 8))
        case 2:
            return dice.one_of((b"", b"\0\0\0\0", b"refuse", b"Refused", data[4:], data[:40], bytes(8) + data))
        case 3:
            return data[:4] + data[4:].replace(b":", b": ", 1)
    return data


def _wire(dice: Dice, answer: CaseAnswer) -> None:
    """Contributions on the wire: written, read back, and what no honest node sends."""
    size, dp = dice.whole(1, 5), dice.one_of(("central", "local", "distributed", "off", "local"))
    plan = _plan(dice, size, dp)
    if dp == "local" and dice.chance(0.2):
        plan = plan.model_copy(update={"events": Sampling(inclusion=0.5, steps=2)})
    for coordinates, grid in ((dice.whole(0, 99), dice.one_of((1, 2, 3, 255, 256, 2**26))),):
        answer.tell(wire.packed_bytes(coordinates, grid))
    answer.tell(wire.vector_bytes(plan), [value for name, value in vars(exchange).items() if name.isupper()])
    if plan.cohort is not None:
        masked = plan.cohort.model_copy(update={"masks": True, "n_max": dice.whole(6, 2**20)})
        answer.tell(wire.vector_bytes(plan.model_copy(update={"cohort": masked})))
    answer.tell(
        str(wire.dtype_for(2 ** dice.whole(4, 6), 2**26 - dice.whole(0, 1))), str(wire.share_dtype(dice.whole(31, 33)))
    )
    header = ContributionHeader(
        run="r", round=1, attempt=2, plan_hash="x", users=dice.one_of((1, 2**10)), rejected=3, size=size
    )
    numbers = dice.wholes(-(2**20), 2**20, size)
    answer.tell(wire.encode(header, ClippedSum(numbers, 2, dice.one_of((2**20, 2**26)))))
    answer.tell(wire.encode_share(header, NoisyShare(numbers, 2), bits=dice.whole(31, 34)))
    two = header.model_copy(update={"users": 2, "size": 2})  # whose squares are beyond what floats hold exactly
    for little in (90, 150, 0):
        answer.of(wire.decode, wire.encode(two, ClippedSum(np.array([2**27, little]), 2, 2**26)), grid=2**26)
    for _ in range(4):
        data = _encoded(dice, plan, *_message(dice, plan, size + 64 * dice.whole(0, 1)))
        answer.of(wire.decode, data, grid=plan.grid)
        answer.of(wire.decode_share, data, bits=dice.one_of((plan.bits(1), 18, 32, 40)))
        if dp == "local":
            answer.of(wire.decode_local, data, plan)
        head = answer.tried(wire.split, data)
        answer.tell(None if isinstance(head, PalateError) else bytes(head[1]))
    long = canonical_json(
        header.model_dump() | {"run": "r" * (2**12 - len(canonical_json(header.model_dump())) + 1 + dice.whole(0, 1))}
    )
    answer.tell(isinstance(answer.tried(wire.split, len(long).to_bytes(4, "big") + long), tuple))


def _aggregates(dice: Dice, answer: CaseAnswer) -> None:
    """The answers of an attempt's nodes, summed: some twice, some refused, some wrong."""
    size, dp = dice.whole(1, 3), dice.one_of(("central", "local", "central", "local", "distributed", "off"))
    plan = _plan(dice, size, dp)
    full = size + 64 if plan.mode.noised_by_devices else size
    room = dice.chance(0.4) and dp in ("central", "local")
    if room:
        plan = plan.model_copy(update={"grid": 2**40} if dp == "central" else {"sigma": 2**36})
        plan = plan.model_copy(update={"per_node": 2**26})
    replies = list[tuple[int, bytes]]()
    for _ in range(dice.one_of((0, 1, 3, 6, 8))):
        header, numbers = _message(dice, plan, full if dice.chance(0.9) else size)
        if room:
            header |= {"users": dice.one_of((2**22, 2**20, 1, 2**20 - 1, 2**22 - 1)), "rejected": 0}
            numbers = dice.one_of((numbers, [1] * full, [2] * full))
        data = REFUSED if dice.chance(0.15) else _encoded(dice, plan, header, numbers)
        replies.append((dice.whole(1, 6), data))
    answer.tell(aggregate(iter(replies), plan), aggregate(dict(replies), plan))
    done = SimpleNamespace(
        total=dice.wholes(-9, 9, full), survivors=tuple(range(dice.whole(0, 5))), invited=dice.whole(5, 9),
        dropped={"malformed": dice.whole(0, 3), "silent": 1},
    )  # fmt: skip
    answer.tell(recovered(done))  # type: ignore[arg-type]


SEAMS = (
    Seam("wire: contributions written and read", _wire, 36),
    Seam("aggregation: the answers of nodes", _aggregates, 48),
)
