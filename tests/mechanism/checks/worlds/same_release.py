"""Same release: where two worlds release the same noised numbers, all else that they write and say is the same, too.

The other tests of side outputs compare two worlds with the same noise, and have to leave out whatever is made of the
noised numbers, such as hashes. Here the noise differs by as much as the sums do, so that both worlds release the very
same numbers, and nothing has to be left out: every file byte for byte, headers, logs, ledger, model. A hash of the sum
before the noise, or of anything else that knows of data, then shows. Clocks stand still meanwhile. What
differs between two runs of the same world all the same is left out.

    world A: sums a + noise n          = the release          -> files, logs, ledger, model: equal
    world B: sums b + noise n + a - b  = the same release     ->
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from mechanism.checks.side_outputs import heard, outside
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.watched_run import WatchedRun, steps_of
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Int64
from palate_common.models.model import read_metadata
from palate_core.errors import PalateError
from palate_server.rounds import coordinator
from palate_server.rounds.noise import NoisyAggregate

TEST = "same release"
NOW = 4_000_000_000.0
"""Late enough that no device finds a plan expired."""
USERS, ITEMS, SUBJECT = 20, 12, 7
LEARNED = {"rounds": 2, "popularity_only_below": 0, "embedding_size": 4}
SETTINGS = {
    "popularity": Setting(algorithm="popularity", users_per_node=5),
    "als": Setting(algorithm="als", settings=LEARNED, users_per_node=10, clip_norm=1.0, epsilon=20.0),
}


def same_release() -> list[Finding]:
    """Two algorithms; the server adds the noise. Where devices do, the server has nothing but the noised numbers."""
    return [_found(name, setting) for name, setting in SETTINGS.items()]


def _found(name: str, setting: Setting) -> Finding:
    """What differs between the worlds."""
    test, released = f"{TEST}: {name}", list[Int64]()
    try:
        one, again = (_played(setting, 5, released) for _ in range(2))
        other = _played(setting, 0, released)
    except PalateError as error:
        return Finding.checked(test, False, f"the run must end, got: {error}")
    wrong = next(_differences(one, again, other), "")
    return Finding.checked(test, not wrong, wrong or f"{len(one)} outputs, the same where the release is")


def _differences(one: Mapping[str, Any], again: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """What differs between worlds, and not within one."""
    for where in sorted({**one, **other}, key=lambda each: not each.startswith("files")):  # what it is made of, first
        values = [each.get(where) for each in (one, again, other)]
        if values[0] == values[1] != values[2]:
            yield f"{where} tells more of the sum than its noised numbers do: {values[0]!r:.60} and {values[2]!r:.60}"


def _played(setting: Setting, events: int, released: list[Int64]) -> dict[str, Any]:
    """One run; the first one's releases are those of all others."""
    real: Callable[..., NoisyAggregate] = vars(coordinator)["noised"]
    kept, place = list(released), iter(released)

    def same(aggregate: Any, plan: Any) -> NoisyAggregate:
        noisy = real(aggregate, plan)
        if kept:
            return replace(noisy, steps=next(place))
        released.append(noisy.steps)
        return noisy

    with (
        mock.patch("time.time", return_value=NOW),  # no time differs by chance between worlds only
        mock.patch.object(coordinator, "noised", same),
        heard() as said,
        probe_run(setting, _histories(events)) as stage,
    ):
        stage.coordinator.clock = lambda: NOW
        stage.play()
        return dict(_flat("", _outputs(stage, said)))


def _histories(events: int) -> Interactions:
    """Users of whom one has so many events."""
    rng = np.random.default_rng(8)
    acts: list[list[int]] = [rng.choice(ITEMS, int(rng.integers(1, 6)), replace=False).tolist() for _ in range(USERS)]
    acts[SUBJECT] = list(range(events))
    return crowd(acts, n_items=ITEMS)


def _outputs(stage: WatchedRun, said: Sequence[str]) -> dict[str, Any]:
    """All that leaves; of answers in the clear, all but their numbers."""
    return {
        "answers": {f"{at}": [outside(each) for each in got] for at, got in stage.seen.replies.items()},
        "plans": [each.model_dump(mode="json") for each in stage.seen.plans],
        "participation": [vars(release.participation) for release in stage.releases],
        "log lines": [line.replace(str(stage.folder), "") for line in said],
        "ledger": [entry.body for entry in stage.ledger.entries()],
        "model": stage.coordinator.model.hash,
        "files": {name: _file(name, data) for name, data in stage.files().items()},
    }


def _file(name: str, data: bytes) -> Any:
    if name.startswith("releases/") and name.endswith(".safetensors"):
        return {"header": read_metadata(data), "steps": steps_of(data).tolist(), "bytes": len(data)}
    try:
        return json.loads(data)
    except ValueError:
        return data.hex()


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value by where it is; what is in a text that is JSON, too."""
    if isinstance(value, str) and value[:1] in "{[" and value:
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        yield path, sorted(map(str, value))
        for name, each in value.items():
            yield from _flat(f"{path}/{name}".lstrip("/"), each)
    elif isinstance(value, list | tuple):
        yield path, len(value)
        for at, each in enumerate(value):
            yield from _flat(f"{path}/{at}", each)
    else:
        yield path, value
