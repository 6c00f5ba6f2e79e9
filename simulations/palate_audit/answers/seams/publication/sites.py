"""Sites: made-up server folders and their settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.answers.dice import Dice
from palate_common.algorithms import State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.popularity import COUNTS, Popularity
from palate_core.accounting import mu_of
from palate_core.errors import InputError
from palate_core.log.signing import SigningKey
from palate_server.folder.server_folder import Site
from palate_server.service.setup import server_toml

DAY = 86400.0
ITEMS = ("one", "two", "three", "four", "five", "six")
WEEK = "2025-09-29"


def iso(at: float) -> str:
    """A time as ledgers have it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def made_settings(dice: Dice) -> dict[str, Any]:
    """Settings of a server, mostly of one with a few devices."""
    weeks = ["2025-09-22", "2025-09-29", "2025-10-06"]
    return {
        "population": "readers",
        "profile": None,
        "privacy.dp": dice.one_of(("central", "central", "distributed")),
        "privacy.epsilon": dice.one_of((1.0, 2.0)),
        "privacy.delta": dice.one_of((1e-5, 1e-6)),
        "privacy.lifetime_epsilon": dice.one_of((8.0, 20.0)),
        "privacy.period_epsilon": dice.one_of((4.0, 8.0)),
        "privacy.period_days": dice.one_of((1, 30, 90)),
        "privacy.clip_norm": dice.one_of((None, 2.0)),
        "training.algorithm": dice.one_of(("popularity", "popularity", "dp-als")),
        "training.every_hours": dice.one_of((0.0, 1.0, 720.0)),
        "training.seed": dice.whole(0, 3),
        "cohort.size": dice.one_of((8, 30, 100)),
        "cohort.attempts": dice.whole(1, 4),
        "cohort.pause_seconds": dice.one_of((0.0, 60.0, 3600.0, 50_000.0)),
        "cohort.plan_seconds": dice.one_of((None, 60)),
        "judging.epsilon": dice.one_of((0.0, 1.0, 1.0, 4.0)),
        "judging.hours": dice.one_of((1.0, 72.0, 72.0)),
        "judging.unjudged": dice.one_of(("hold", "publish")),
        "judging.quarantine_runs": dice.one_of((0, 1, 3)),
        "judging.quarantine_items": dice.one_of((1, 2, 10)),
        "judging.quarantine_accusers": dice.one_of((0.01, 0.0, 0.2)),
        "surveys.weekly": dice.chance(0.7),
        "surveys.epsilon": dice.one_of((0.5, 1.0)),
        "surveys.channels": dice.some_of(["email", "push"]),
        "surveys.experiments": {name: dice.some_of(weeks, 0.7) or weeks[:1] for name in dice.some_of(("new", "old"))},
        "release.keep": dice.whole(1, 3),
        "release.rounds": dice.one_of((1, 1, 1, 2)),
        "release.signal": dice.one_of((0.0, 0.0, 0.5, 3.0)),
    }


def made_site(folder: Path, settings: Mapping[str, Any], items: tuple[str, ...] = ITEMS) -> Site:
    """A server folder with a key and a ledger, and no model yet."""
    site = Site(folder)
    (folder / "server.toml").write_text(server_toml(settings))
    (folder / "items").write_text("".join(f"{item}\n" for item in items))
    site.make_folders()
    SigningKey.generate().save(folder / "key")
    return Site.at(folder)


def made_links(rows: int) -> Links:
    """A panel's links: each item says something of the next."""
    at = np.arange(rows, dtype=np.int32)
    shape = np.full((rows, 1), 0.5, np.float32)
    return Links(at, ((at + 1) % rows)[:, None].astype(np.int32), shape, np.ones(rows, np.float32))


class HandingOn(Popularity):
    """Popularity whose next run starts from the last one's counts."""

    name = "answers-handing-on"
    public_inputs = ("before",)
    training_only = ("before",)

    def opening(self, inputs: State) -> State:
        """The counts of the last run beside those of this one."""
        return {**self.start(), "before": inputs.get("before", np.zeros(self.facts.n_items, np.float32))}

    def hand_over(self, state: State, rows: Any, n_items: int) -> State:
        """The counts in the later catalogue."""
        if not state[COUNTS].any():
            raise InputError("there must be counts, got none")
        before = np.zeros(n_items, np.float32)
        before[rows] = state[COUNTS]
        return {"before": before}


def steady_mu(**named: float) -> float:
    """`mu_of` in steps of 2^-20, which is the same on each machine."""
    return math.floor(mu_of(**named) * 2**20) / 2**20
