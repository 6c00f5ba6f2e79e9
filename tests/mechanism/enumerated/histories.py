"""Histories of every size: what a round reads of a store is all of it, and one event more changes its own term.

An app's device takes part in rounds whose unit is one event, while its store grows: from nothing, and from events that
count for nothing, to hundreds of items. What its own road hands to the steps is kept, store to contribution. At each
size

- it has every item that the store has, once, and nothing else;
- with one event more, of a new item or of one that is there, no other item is added, and none is lost;
- each step's sum moves by what that event gives alone, with the noised results of earlier steps held fixed;
- the device answers, with a message of the same length.

There is no size from which on a device may take its latest items, its best ones or none: then one event moves two.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from mechanism.enumerated.events import moved
from mechanism.enumerated.settings import RoundStage
from mechanism.harness.lying_operator import LyingOperator, lying_operator
from mechanism.harness.probe_run import POPULATION, Setting
from palate_audit.evidence.evidence import Finding
from palate_client.events import Event
from palate_client.rounds import contribution
from palate_common.interactions import Interactions
from palate_common.rounds.wire import REFUSED
from palate_common.system import memory_folder
from palate_core.errors import PalateError
from palate_core.privacy_mode import LOCAL

TEST = "separable: one event of a history"
ITEMS = 640
SIZES = (
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    10,
    15,
    16,
    31,
    32,
    63,
    64,
    99,
    100,
    127,
    128,
    199,
    200,
    255,
    256,
    299,
    300,
    499,
    511,
    512,
    600,
)
QUICK = (0, 10, 300)
STEPPED = (10,)
"""Where sums of steps are looked at in the quick form."""
SETTING = Setting(
    algorithm="event-mf", mode=LOCAL, events=1.0, users_per_node=1, epsilon=0.5,
    settings={"embedding_size": 2, "rounds": 2},
)  # fmt: skip
ODD: dict[str, list[Event]] = {
    "items that nobody knows": [Event("like", "elsewhere"), Event("view", "nowhere")],
    "a rejection": [Event("dismiss", f"item-{ITEMS - 1}")],
}
"""What counts for nothing."""


def histories_of_every_size(*, quick: bool = False) -> list[Finding]:
    """One device whose store grows; `quick`: at a few sizes."""
    sizes, wrong = QUICK if quick else SIZES, ""
    try:
        with ExitStack() as stack:
            wrong = next(_grown(stack, sizes, quick), "")
    except PalateError as error:
        wrong = f"a store must grow, got: {error}"
    said = f"{len(sizes)} sizes up to {sizes[-1]} events: each moves its own terms"
    return [Finding.checked(TEST, not wrong, wrong or said)]


def _grown(stack: ExitStack, sizes: tuple[int, ...], quick: bool) -> Iterator[str]:
    """One device's life."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
    operator = lying_operator(stack, home, SETTING, items=ITEMS, rounds=2, act=False)
    operator.log.add(kind="population", population=POPULATION, created="2026")
    yield from filter(None, [operator.tell("model", 1.0)])
    road, count = _Road(operator), 0
    stage = RoundStage(operator.plan.round, operator.model.state, operator.plan.layout)
    for said, events in {"nothing": [], **ODD}.items():
        operator.device.track_many(events)
        if road.read(said).nnz:
            yield f"a store with {said} has nothing to learn from, and a round reads something"
        yield from road.wrong
    for size in sizes:
        operator.device.track_many([Event("like", f"item-{row}") for row in range(count, size)])
        count = size
        before = road.read(f"{size} items")
        if sorted(before.indices.tolist()) != list(range(size)):
            yield f"a store has {size} items, and a round reads {before.nnz}, or others"
        if size:
            operator.device.track_many([Event("purchase", f"item-{size // 2}")])
            again = road.read(f"{size} items")
            if again.indices.tolist() != before.indices.tolist():
                yield f"with {size} items, one event more of one of them adds others, or they are lost"
            before = again
        operator.device.track_many([Event("like", f"item-{size}")])
        after, count = road.read(f"{size + 1} items"), size + 1
        if sorted(after.indices.tolist()) != list(range(count)):
            yield f"a store has {count} items, and a round reads {after.nnz}, or others"
        if not quick or size in STEPPED:
            yield from (f"with {size} items: {each}" for each in moved(operator.model.algorithm, stage, before, after))
        yield from road.wrong


class _Road:
    """A device's own road, and what it hands to the steps."""

    def __init__(self, operator: LyingOperator) -> None:
        self.operator, self.wrong, self.length = operator, list[str](), 0

    def read(self, said: str) -> Interactions:
        """Take part in one attempt; returns the histories that the steps are made of."""
        operator, real, found = self.operator, vars(contribution)["event_steps"], list[Interactions]()

        def steps(algorithm: Any, state: Any, plan: Any, histories: Interactions, source: Any) -> Any:
            found.append(histories)
            return real(algorithm, state, plan, histories, source)

        operator.number += 1
        plan = operator.signed(operator.charged(2.0 + operator.number), operator.log.show())
        with mock.patch.object(contribution, "event_steps", steps):
            answer = operator.device.contribute(plan, operator.model.data)
        if answer == REFUSED or len(found) != 1:
            self.wrong.append(f"a device with {said} must answer, got: {operator.device.refusal}")
            return Interactions.from_pairs([], [], n_users=1, n_items=ITEMS)
        length = len(answer) - len(str(operator.number))  # its header names the attempt
        if self.length not in (0, length):
            self.wrong.append(f"a device with {said} sends {length} bytes, and sent {self.length}")
        self.length = length
        return found[0]
