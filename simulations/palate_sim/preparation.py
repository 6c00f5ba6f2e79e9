"""Preparation: from a configured log to a split, with everything that was done to it on the way written down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from palate_common.canonical import canonical_json, digest
from palate_sim.config import SimulationConfig
from palate_sim.datasets import Source, load, positives
from palate_sim.filters import k_core
from palate_sim.splits import Split, split


@dataclass(frozen=True)
class Prepared:
    """A split, and where it comes from.

    Attributes:
        name: what to call the data.
        split: training users, held-out users and catalogue.
        features: the public catalogue (item_id, title, genres), or None.
        repairs: what reading repaired, name -> count.
        dropped: what filters and the choice of positives left out, name -> count.
        terms: the publisher's terms of use.
    """

    name: str
    split: Split
    features: pd.DataFrame | None
    repairs: dict[str, int]
    dropped: dict[str, int]
    terms: str

    @property
    def fingerprint(self) -> str:
        """Hash of the training users, their number of events, and the catalogue: equal for equal data."""
        facts = [self.split.name, list(self.split.train_users), list(self.split.items)]
        facts.append(self.split.train.indptr.tolist())
        return digest(canonical_json(facts) + self.split.train.indices.tobytes() + self.split.train.weights.tobytes())

    def exclusions(self) -> list[dict[str, str]]:
        """What the privacy card must say about the preparation."""
        done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.dropped.items() if count)
        if not done:
            return []
        return [{"what": f"data preparation: {done}", "reason": "made on raw data before the experiment, not charged"}]


def prepare(config: SimulationConfig, source: Source | None = None) -> Prepared:
    """Read, filter and split.

    Args:
        config: the run's configuration.
        source: a log that replaces the configured one: a path, a registered name or a data frame.

    Raises:
        InputError: the log can't be read, or nothing is left of it.
    """
    data, chosen = config.data, config.positives
    chosen_source = (data.path or data.name) if source is None else source
    log = load(chosen_source, columns=data.columns or None)
    dropped: dict[str, int] = {}
    if config.filters.user_core > 1 or config.filters.item_core > 1:
        log, narrowed = k_core(log, config.filters.user_core, config.filters.item_core)
        bounds = f"({config.filters.user_core},{config.filters.item_core})-core"
        dropped |= {f"{name} outside the {bounds}": count for name, count in narrowed.items()}
    pairs = positives(
        log,
        threshold=chosen.threshold,
        weights=data.weights,
        value_weights=data.value_weights,
        combine=chosen.combine,
        cap=chosen.cap if math.isfinite(chosen.cap) else math.inf,
        half_life_days=chosen.half_life_days,
    )
    dropped |= pairs.excluded
    return Prepared(
        log.name, split(pairs, config.split.name, seed=config.seed), log.items, log.repairs, dropped, log.terms
    )


def describe_split(split_: Split) -> dict[str, Any]:
    """A split in figures, for result.json."""
    validation = split_.validation
    return {
        "name": split_.name,
        "train_users": split_.train.n_users,
        "validation_users": 0 if validation is None else len(validation.users),
        "test_users": len(split_.test.users),
        "skipped": dict(split_.skipped),
        "notes": list(split_.notes),
    }
