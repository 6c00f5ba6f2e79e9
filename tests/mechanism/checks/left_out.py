"""Left out: of an item in quarantine devices contribute nothing, no model learns, and no list has it.

Runs that one process takes part in, one after the other, with as many, but other, items in quarantine. Then devices
that send what their users did with it all the same, as one of another make would: the model has the item's row as it
was published. A device with that model shows all items but this one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import memory
from palate_audit.evidence.evidence import Finding
from palate_client.device import open_device
from palate_client.rounds import contribution
from palate_common.algorithms.parts import quarantine
from palate_common.algorithms.popularity import COUNTS
from palate_common.models.model import GlobalModel
from palate_common.rounds.wire import decode

TEST, ITEMS, PUBLISHED = "quarantine", 3, 7.0


def left_out() -> list[Finding]:
    """Contributions, sums and lists."""
    wrong = ""
    for row in range(ITEMS):
        sent, _ = _played(row)
        if sent != [each for each in range(ITEMS) if each != row]:
            wrong = wrong or f"with item {row} of {ITEMS} in quarantine a device contributes to {sent}"
    with mock.patch.object(contribution, "learned_from", lambda histories, state: histories):
        _, model = _played(0)
    now = float(model.state[COUNTS][0])
    said = f"devices send something of it all the same; its count was published as {PUBLISHED:g}, and is {now:.4g}"
    lists = _lists(model)
    shown = f"a device that may show all {ITEMS} items shows {lists}"
    return [
        Finding.checked(f"{TEST}: contributions", not wrong, wrong or "each run's own items are left out"),
        Finding.checked(f"{TEST}: devices that go on", now == PUBLISHED, said),
        Finding.checked(f"{TEST}: lists", sorted(lists) == ["item-1", "item-2"], shown),
    ]


def _played(row: int) -> tuple[list[int], GlobalModel]:
    """The items that a device contributes to with one in quarantine, and the model of the round."""
    inputs = quarantine.inputs_of([row], ITEMS, {COUNTS: np.full(ITEMS, PUBLISHED)})
    setting = Setting(algorithm="popularity", inputs=inputs, users_per_node=1)
    with probe_run(setting, crowd([[*range(ITEMS)]], n_items=ITEMS)) as stage:
        stage.play(rounds=1)
        plan, ((answer, *_),) = stage.seen.plans[-1].plan, stage.seen.replies.values()
        return np.flatnonzero(decode(answer or b"", grid=plan.grid).total).tolist(), stage.coordinator.model


def _lists(model: GlobalModel) -> list[str]:
    """All that a device recommends of a model."""
    with (
        tempfile.TemporaryDirectory(dir=memory(), prefix="palate-") as home,
        open_device(Path(home) / "app", app="audit", key=bytes(range(32))) as device,
    ):
        device.use_model(model, [f"item-{row}" for row in range(ITEMS)])
        return [each.item for each in device.recommend(ITEMS)]
