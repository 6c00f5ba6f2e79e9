"""Tracking: the callback between a run and a tracker. It takes the events of the run, and passes all of them on.

A tracker is told what the run's report and card hold and nothing else: the configuration, quality and epsilon by round,
the metrics at the end, `report.html` and `privacy_card.json`. It gets no history, sum, count of a round, or key. What
it raises is told once, as the event `untracked`; the run goes on without it.

    with tracking("tensorboard:logs", run=public_key, folder=folder, config=config, notify=progress) as notify:
        notify({"event": "prepared", ...})
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from palate_core.errors import InputError
from palate_sim.config import as_shown
from palate_sim.metrics import RATING_METRICS
from palate_sim.progress.wording import clean, epsilon_line, point, rounds_line, stamp
from palate_sim.steps import Notify
from palate_sim.tracking.tracker import Begun, Finished, RunTracker, tracker_of

ARTEFACTS = ("report.html", "privacy_card.json")
OWN = "palate"
"""The run's own model, among the models that were tested."""


@contextmanager
def tracking(
    where: str | None,
    *,
    run: str,
    folder: Path,
    config: Mapping[str, Any],
    notify: Notify,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Notify]:
    """A callback for a run's events that tells a tracker, if one is wanted.

    Args:
        where: what `check_tracker` returned; None for no tracker.
        run: the run's public key, which its card shows.
        folder: the run folder, whose `result.json`, report and card are there when the event `done` comes.
        config: the run's configuration.
        notify: gets every event, and `untracked` with `error` where the tracker fails.
        earlier: the points of the curve that earlier processes of the run have logged.
    """
    if where is None:
        yield notify
        return
    told = Tracking(lambda: tracker_of(where), run=run, folder=folder, config=config, notify=notify, earlier=earlier)
    try:
        yield told
    finally:
        told.close()


class Tracking:
    """See `tracking`, which closes it.

    Args:
        make: makes who is told, when the run begins.
        run: the run's public key.
        folder: the run folder.
        config: the run's configuration.
        notify: gets every event.
        earlier: the points of the curve that earlier processes of the run have logged.
    """

    def __init__(
        self,
        make: Callable[[], RunTracker],
        *,
        run: str,
        folder: Path,
        config: Mapping[str, Any],
        notify: Notify,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._make = make
        self._tracker: RunTracker | None = None
        self._run, self._folder, self._config, self._notify = run, folder, config, notify
        self._earlier = tuple((int(row["round"]) + 1, round_values(row)) for row in earlier)
        self._finished = False

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Tell the tracker of an event, then pass it on."""
        match event.get("event"):
            case "prepared":
                self._begin(event)
            case "round":
                self._tell(lambda tracker: tracker.log(int(event["round"]) + 1, round_values(event)))
            case "done":
                self._tell(lambda tracker: tracker.finish(finished(self._folder)))
                self._finished = self._tracker is not None
        self._notify(event)

    def close(self) -> None:
        """Let the tracker go; a second call does nothing."""
        self._tell(lambda tracker: tracker.close(finished=self._finished))
        self._tracker = None

    def _begin(self, event: Mapping[str, Any]) -> None:
        """Make the tracker, which imports its package, and begin."""
        said, name = rounds_line(event.get("privacy") or {}), self._folder.resolve().name
        begun = Begun(self._run[:32], name, dict(_settings(as_shown(self._config))), said, self._earlier)
        try:
            self._tracker = self._make()
        except Exception as error:
            self._fail(error)
        self._tell(lambda tracker: tracker.begin(begun))

    def _tell(self, what: Callable[[RunTracker], None]) -> None:
        """Do something with the tracker, while there is one."""
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Let the tracker go for good, and say so."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with suppress(Exception):
                tracker.close(finished=False)
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        self._notify({"event": "untracked", "error": clean(f"{type(error).__name__}: {first:.200}")})


def replay(result: Mapping[str, Any], notify: Notify) -> None:
    """The events of a run that is finished, of its `result.json`, as it had them."""
    beside = {key: result.get(key) for key in ("dp", "delta", "unit", "adjacency", "accountant")}
    notify({"event": "prepared", "name": result.get("name"), "privacy": beside})
    for row in result.get("curve") or ():
        notify({"event": "round", **row})
    notify({"event": "done"})


def round_values(row: Mapping[str, Any]) -> dict[str, float]:
    """A point of the curve as it is tracked: quality with its interval, mean rank, epsilon spent."""
    metrics = [key for key in row if "@" in key or key in RATING_METRICS]
    names = {metric: f"validation/{metric}" for metric in metrics}
    if metrics:
        names |= {end: f"validation/{metrics[0]} {end}" for end in ("low", "high")}
    names |= {"mean_rank": "validation/mean_rank", "epsilon": "privacy/epsilon"}
    return {name: float(row[key]) for key, name in names.items() if row.get(key) is not None}


def finished(folder: Path) -> Finished:
    """What a finished run folder leaves to a tracker.

    Raises:
        InputError: there is no readable result in it.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"a finished run must have its result.json: {folder}") from None
    models = {OWN: result.get("metrics") or {}, **(result.get("baselines") or {})}
    cost = {f"cost/{unit}_{key}": value for part, unit in (("seconds", "seconds"), ("bytes_per_client", "bytes"))
            for key, value in (result.get(part) or {}).items()}  # fmt: skip
    cost |= {f"cost/{key}": result.get(key) for key in ("updates_per_cpu_second", "peak_memory_bytes")}
    if result.get("epsilon") is not None:
        cost["cost/epsilon"] = result["epsilon"]
    return Finished(
        step=max((int(row["round"]) + 1 for row in result.get("curve") or ()), default=1),
        values={key: float(value) for key, value in cost.items() if value is not None},
        tested={model: _test(metrics) for model, metrics in models.items()},
        privacy=" · ".join(part for part in (stamp(result), epsilon_line(result)) if part),
        files=tuple(folder / name for name in ARTEFACTS),
    )


def _settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _test(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Test metrics of one model."""
    found = {f"test/{metric}": point(value) for metric, value in metrics.items()}
    return {name: value[0] for name, value in found.items() if value is not None}
