"""Preparation: from a configured log to a split, with a record of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from palate_common.algorithms import State, algorithm_class
from palate_common.algorithms.als.algorithm import FEATURES, SOURCES
from palate_common.errors import InputError
from palate_common.records.canonical import canonical_json, digest
from palate_sim.config import SimulationConfig
from palate_sim.data import Source, domains_of, joined, load, positives
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs
from palate_sim.features.features import Matrix, item_features, joined_features
from palate_sim.preparation.filters import k_core
from palate_sim.preparation.splits import Split, split


@dataclass(frozen=True)
class Prepared:
    """A split with its provenance.

    Attributes:
        name: what to call the data.
        split: training users, held-out users and catalogue.
        catalogue: what is public about items (item_id, title, genres), or None.
        inputs: public arrays made of it for the algorithm: item features, or nothing.
        repairs: what reading repaired, name -> count.
        dropped: what filters and the choice of positives removed, name -> count.
        terms: the publisher's terms of use.
        filtered: which filter was used, even if it removed nothing; empty without one.
        domains: of each item of the split, such as "books"; None: there is only one.
        sources: name -> width of each source of features, in the order of their columns; {}: there is one, unnamed.
    """

    name: str
    split: Split
    catalogue: pd.DataFrame | None
    inputs: State
    repairs: dict[str, int]
    dropped: dict[str, int]
    terms: str
    filtered: str = ""
    domains: tuple[str, ...] | None = None
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the catalogue, and of who has what in every part of the split: equal for equal data."""
        cut = self.split
        parts = [(cut.train_users, cut.train)]
        for heldout in (cut.validation, cut.test):
            parts += [] if heldout is None else [(heldout.users, heldout.foldin), (heldout.users, heldout.target)]
        facts = [cut.name, list(cut.items), [[list(users), part.indptr.tolist()] for users, part in parts]]
        arrays = b"".join(part.indices.tobytes() + part.weights.tobytes() for _, part in parts)
        return digest(canonical_json(facts) + arrays)

    def exclusions(self) -> list[dict[str, str]]:
        """Exclusions of the preparation for the privacy card; without counts, which would be raw statistics."""
        if not self.filtered:
            return []
        what = f"data preparation: what lies outside the {self.filtered} was left out"
        return [{"what": what, "reason": "made on raw data before the experiment, not charged"}]


def prepare(config: SimulationConfig, source: Source | None = None) -> Prepared:
    """Read, filter and split.

    Args:
        config: the run's configuration.
        source: a log that replaces the configured one: a path, a registered name or a data frame.

    Raises:
        InputError: the log can't be read, or nothing is left of it.
    """
    log = read(config, source)
    dropped: dict[str, int] = {}
    bounds = ""
    if config.filters.user_core > 1 or config.filters.item_core > 1:
        log, narrowed = k_core(log, config.filters.user_core, config.filters.item_core)
        bounds = f"({config.filters.user_core},{config.filters.item_core})-core"
        dropped |= {f"{name} outside the {bounds}": count for name, count in narrowed.items()}
    pairs = weighed(log, config)
    dropped |= pairs.excluded
    cut = split(pairs, config.split.name, seed=config.seed)
    _check_negatives(cut)
    features, widths = run_features(log.items, cut.items, config)
    inputs: State = {} if features is None else {FEATURES: features}
    found = domains_of(log.items, cut.items)
    return Prepared(log.name, cut, log.items, inputs, log.repairs, dropped, log.terms, bounds, found, widths)


def run_features(
    catalogue: pd.DataFrame | None, items: Sequence[str], config: SimulationConfig
) -> tuple[Matrix | None, dict[str, int]]:
    """The configured features in row order, and the width of each source; {} where there is one without a name."""
    if config.features.sources:
        return joined_features(catalogue, items, config.features.sources)
    return item_features(catalogue, items, config.features.source), {}


def naming_sources(config: SimulationConfig, prepared: Prepared) -> SimulationConfig:
    """Add the widths of named sources to the algorithm's settings, if it has such a setting.

    Any other algorithm gets all features as one matrix.
    """
    chosen = config.algorithm
    if not prepared.sources or SOURCES not in algorithm_class(chosen.name).Settings.model_fields:
        return config
    settings = {**chosen.settings, SOURCES: prepared.sources}
    return config.model_copy(update={"algorithm": chosen.model_copy(update={"settings": settings})})


def read(config: SimulationConfig, source: Source | None = None) -> InteractionLog:
    """The configured log, or the one that replaces it.

    Raises:
        InputError: it can't be read.
    """
    data = config.data
    columns = {name: None if column == "" else column for name, column in data.columns.items()}
    if not data.domains:
        return load((data.path or data.name) if source is None else source, columns=columns or None)
    if source is not None or data.path is not None:
        raise InputError("`data.domains` names the logs: it can't stand beside another log, got both")
    return joined({domain: load(log, columns=columns or None) for domain, log in data.domains.items()})


def weighed(log: InteractionLog, config: SimulationConfig) -> Pairs:
    """The log's positives as configured.

    Raises:
        InputError: none is left.
    """
    data, chosen = config.data, config.positives
    return positives(
        log,
        threshold=chosen.threshold,
        weights=data.weights,
        value_weights=data.value_weights,
        kind_values=data.kind_values,
        combine=chosen.combine,
        cap=chosen.cap if math.isfinite(chosen.cap) else math.inf,
        half_life_days=chosen.half_life_days,
    )


def _check_negatives(cut: Split) -> None:
    """Refuse, before any charge, a catalogue too small for the split's sampled negatives."""
    for heldout in (cut.validation, cut.test):
        if cut.sampled_negatives is None or heldout is None:
            continue
        taken = heldout.foldin.counts() + heldout.target.counts()
        if heldout.withheld is not None:
            taken = taken + heldout.withheld.counts()
        left = len(cut.items) - int(taken.max())
        if left < cut.sampled_negatives:
            raise InputError(
                f"`split` {cut.name} must have {cut.sampled_negatives} items that a user doesn't have, got {left} for "
                "the most active user"
            )


def describe_split(split_: Split) -> dict[str, Any]:
    """A split in figures, for result.json."""
    validation, train = split_.validation, split_.train
    seen = train.item_counts > 0
    return {
        "name": split_.name,
        "train_users": split_.train.n_users,
        "validation_users": 0 if validation is None else len(validation.users),
        "test_users": len(split_.test.users),
        "items_of_no_training_user": int((~seen).sum()),
        "test_targets_of_no_training_user": int((~seen[split_.test.target.indices]).sum()),
        "skipped": dict(split_.skipped),
        "notes": list(split_.notes),
    }
