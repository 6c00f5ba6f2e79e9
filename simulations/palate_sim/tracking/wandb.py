"""Weights & Biases, offline: files in a folder, which `wandb sync` sends when you say so. Nothing goes out before.

    WandbTracker("logs")  # then, if you want to: wandb sync logs/wandb/offline-run-*

A run that goes on writes a further folder of the same id with all of the curve, so the last one is enough.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from palate_sim.tracking.tracker import PROJECT, Begun, Finished

ALONE: dict[str, Any] = {
    "silent": True, "console": "off", "disable_git": True, "disable_code": True, "save_code": False,
    "x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False,
}  # fmt: skip
"""Settings with which W&B notes neither machine, user, command, commit, packages nor what is printed."""


class WandbTracker:
    """One run in a folder.

    Args:
        place: the folder, made if missing.
    """

    def __init__(self, place: str) -> None:
        self._folder = Path(place)
        self._run: Any = None

    def begin(self, run: Begun) -> None:
        """Begin an offline run with the run's id and configuration."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            mode="offline",
            dir=str(self._folder),
            project=PROJECT,
            id=run.id,
            name=run.name,
            config=dict(run.config),
            notes=run.privacy,
            settings=wandb.Settings(**ALONE),
        )
        for step, values in run.earlier:  # a process that is killed takes what W&B has not yet written with it
            self.log(step, values)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of a round."""
        self._run.log(dict(values), step=step, commit=True)

    def finish(self, result: Finished) -> None:
        """Costs and test metrics in the summary, those of a baseline with its name; report and card as files."""
        summary: dict[str, Any] = dict(result.values)
        for model, values in result.tested.items():
            summary |= {name if model == "palate" else f"{name} {model}": value for name, value in values.items()}
        self._run.summary.update({**summary, "privacy": result.privacy})
        for file in result.files:
            shutil.copyfile(file, Path(self._run.dir) / file.name)
            self._run.save(str(Path(self._run.dir) / file.name), base_path=self._run.dir, policy="now")

    def close(self, *, finished: bool) -> None:
        """Write everything, and end W&B's own process."""
        if self._run is not None:
            self._run.finish(exit_code=0 if finished else 1)
            wandb.teardown()
