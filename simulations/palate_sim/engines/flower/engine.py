"""The engine `flower`: Flower's own SuperLink, ServerApp and Ray workers, for the same apps.

    outcome = run_flower(job, histories, on_release=lambda release: print(release.plan.round))

Start-up takes about ten CPU-seconds, and the processes about 1.4 GB. Flower's output goes to `flower.log` in the run
folder. No process is left running, however the command ends: see `guard`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core import errors
from palate_core.errors import PalateError
from palate_core.plan import RoundPlan
from palate_server.rounds.aggregation import ParticipationCounts
from palate_server.rounds.coordinator import Release
from palate_server.rounds.lock import RunLock
from palate_sim.engines.flower.bundle import CONNECTION
from palate_sim.engines.flower.launch import Engine, launched, require_flower
from palate_sim.engines.job import Job, OnRelease, Outcome
from palate_sim.engines.processes import cpu_seconds
from palate_sim.steps import Notify, silent, step

POLL = 0.05  # seconds between two reads of the progress file
ASK = 2.0  # seconds between two requests to the SuperLink
LOG_TIMEOUT = 10.0  # seconds for a failed run's log to arrive


def run_flower(
    job: Job, histories: Interactions, on_release: OnRelease | None = None, notify: Notify = silent
) -> Outcome:
    """Run every round that is left through Flower's Ray engine.

    Args:
        job: the run.
        histories: one row an installation, in the order of their numbers in the device ledger.
        on_release: called with each release soon after it is sealed; the next round doesn't wait for it.
        notify: called when Flower starts, and when it has.

    Raises:
        InputError: Ray is missing, the system isn't Linux, or key, ledger or terms don't fit.
        LockedError: somebody else owns the run folder.
        BudgetError: the budget doesn't allow another attempt.
        IntegrityError: too few contributions; the attempt stays charged.
        PalateError: Flower failed; `flower.log` says more.
    """
    require_flower()
    job = job.model_copy(update={name: getattr(job, name).resolve() for name in ("folder", "ledger", "key")})
    with RunLock(job.folder):
        pass  # fail at once where the ServerApp would fail after twenty seconds
    with ExitStack() as stack:
        with step(notify, "starting Flower"):
            engine = stack.enter_context(launched(job, histories))
            run = engine.link.submit(engine.folder / "app", CONNECTION, nodes=job.nodes(histories.n_users))
        logs = threading.Thread(target=engine.link.copy_log, args=(run, engine.log), daemon=True)
        logs.start()
        try:
            return _Watch(engine, on_release).until_trained(run)
        except PalateError:
            logs.join(LOG_TIMEOUT)
            raise


class _Watch:
    """Follows a run through the events that its ServerApp writes, and measures it."""

    def __init__(self, engine: Engine, on_release: OnRelease | None) -> None:
        self._engine, self._on_release = engine, on_release
        self._position = 0
        self._updates = 0
        self._started = self._latest = (cpu_seconds(engine.guard.pid), time.perf_counter())

    def until_trained(self, run: int) -> Outcome:
        """Wait for the end of the run; pass each of its releases to the callback."""
        asked = time.monotonic()
        while True:
            verdict = None
            if time.monotonic() - asked > ASK:
                self._engine.check()
                # Ask before reading the file, so that the events written before the end are read below.
                verdict, asked = self._engine.link.verdict(run), time.monotonic()
            for event in self._news():
                outcome = self._take(event)
                if outcome is not None:
                    return outcome
            if verdict is not None:
                raise PalateError(f"Flower's run must end with a model, got {verdict!r}: see {self._engine.log}")
            time.sleep(POLL)

    def _take(self, event: Mapping[str, Any]) -> Outcome | None:
        """Handle one event of the ServerApp; return the outcome after the last one."""
        match event["event"]:
            case "training":
                self._started = self._latest = self._now()
            case "release":
                self._latest = self._now()
                participation = ParticipationCounts(**event["aggregate"])
                self._updates += participation.users
                if self._on_release is not None:
                    plan = RoundPlan.model_validate(event["plan"])
                    self._on_release(Release(plan, participation, self._model(event)))
            case "trained":
                return self._outcome(self._model(event))
            case "failed":
                kind = getattr(errors, event["kind"], PalateError)
                hint = "" if hasattr(errors, event["kind"]) else f": see {self._engine.log}"
                raise kind(f"{event['error']}{hint}")
        return None

    def _outcome(self, model: GlobalModel) -> Outcome:
        cpu, wall = (latest - started for latest, started in zip(self._latest, self._started, strict=True))
        return Outcome(model, self._updates, cpu, wall)

    def _now(self) -> tuple[float, float]:
        return cpu_seconds(self._engine.guard.pid), time.perf_counter()

    def _news(self) -> list[Mapping[str, Any]]:
        """The complete lines that the ServerApp has added since the last call."""
        try:
            with (self._engine.folder / "progress.jsonl").open("rb") as file:
                file.seek(self._position)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._position += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]

    def _model(self, event: Mapping[str, Any]) -> GlobalModel:
        return GlobalModel.from_bytes((self._engine.folder / event["model"]).read_bytes())
