"""MLflow: a database such as `sqlite:///mlflow.db`, a folder's `file:` address, or a tracking server.

    MlflowTracker("sqlite:///mlflow.db")  # then: mlflow ui --backend-store-uri sqlite:///mlflow.db

A run is found again by its tag `palate.run`. The client is used in the place of `mlflow.start_run`, which would add the
user's name, the command and the commit of the working folder.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping

from mlflow.entities import Metric, Param, RunTag  # type: ignore[attr-defined, unused-ignore]  # exported late
from mlflow.tracking import MlflowClient

from palate_sim.tracking.tracker import PROJECT, Begun, Finished

ID = "palate.run"
LONGEST = 5_000
"""Characters of a tag or parameter that every store takes."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Seconds for an answer of a server, and how often it is asked again, unless the environment says so: MLflow's own two
minutes, eight times, would hold a run up for a quarter of an hour."""


class MlflowTracker:
    """One run in an MLflow store.

    Args:
        place: the store's URI.
    """

    def __init__(self, place: str) -> None:
        self._place, self._run = place, ""

    def begin(self, run: Begun) -> None:
        """Make the run, or find it, and write its configuration as parameters."""
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        for chatty in ("alembic", "mlflow"):
            logging.getLogger(chatty).setLevel(logging.WARNING)  # a new database tells each of its migrations
        self._client = MlflowClient(self._place)
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = self._client.create_experiment(PROJECT) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], filter_string=f"tags.`{ID}` = '{run.id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            made = self._client.create_run(experiment, run_name=run.name, tags={ID: run.id, "privacy": run.privacy})
            self._run = made.info.run_id
        settings = [Param(_key(name), str(value)[:LONGEST]) for name, value in run.config.items()]
        for first in range(0, len(settings), 100):  # what a server takes at once
            self._client.log_batch(self._run, params=settings[first : first + 100])
        for step, values in run.earlier:  # whatever it missed, such as while the server was away
            known = self._client.get_metric_history(self._run, _key(next(iter(values)))) if values else []
            if step not in {metric.step for metric in known}:
                self.log(step, values)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a round."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(_key(name), value, now, step) for name, value in values.items()])

    def finish(self, result: Finished) -> None:
        """Costs and test metrics at the last round, those of a baseline with its name; report and card."""
        tested = {
            name if model == "palate" else f"{name} {model}": value
            for model, values in result.tested.items()
            for name, value in values.items()
        }
        self.log(result.step, {**result.values, **tested})
        self._client.log_batch(self._run, tags=[RunTag("privacy", result.privacy[:LONGEST])])
        for file in result.files:
            self._client.log_artifact(self._run, str(file))

    def close(self, *, finished: bool) -> None:
        """Say how the run ended."""
        if self._run:
            self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


def _key(name: str) -> str:
    """A name of MLflow: `recall@20` is `recall_at_20`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name.replace("@", "_at_"))[:250]
