"""Preparation: from a configured log to a split, with a record of every step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_common.algorithms import State, algorithm_class
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.als.plan import SOURCES
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_sim.config import SimulationConfig
from palate_sim.data import Source, Workspace, domains_of, joined, load, positives
from palate_sim.data.events import Place
from palate_sim.data.features import published_facts
from palate_sim.data.log import InteractionLog
from palate_sim.data.positives import Pairs
from palate_sim.data.readers import IN_MEMORY, no_room
from palate_sim.features.features import Matrix, item_features, joined_features
from palate_sim.panel.panel import (
    Panel,
    check_others,
    check_strangers,
    choose,
    fit_panel,
    is_starter,
    match_items,
    origin_of,
    panel_of,
    people_of,
    reading,
)
from palate_sim.preparation.draft import Draft
from palate_sim.preparation.filters import k_core
from palate_sim.preparation.splits import NEEDS_TIMES, Split, split
from palate_sim.steps import Notify, silent, step

AT_ONCE = 1 << 20
"""Numbers or ids that are hashed at once."""


@dataclass(frozen=True)
class Prepared:
    """A split with its provenance.

    Attributes:
        name: what to call the data.
        split: training users, held-out users and catalogue.
        catalogue: what is public about items (item_id, title, genres), or None.
        inputs: public arrays for the algorithm: item features and a panel's model, or nothing.
        repairs: what reading repaired, name -> count.
        dropped: what filters and the choice of positives removed, name -> count.
        terms: the publisher's terms of use.
        filtered: which filter was used, even if it removed nothing; empty without one.
        domains: of each item of the split, such as "books"; None: there is only one.
        sources: name -> width of each source of features, in the order of their columns; {}: there is one, unnamed.
        draft: the folder that a large log's histories are mapped from; None: they are in memory.
        panel: the people whose log is open; None: nobody's is.
        draft_is_whole: whether all of the draft's training users train.
        log: the filtered log, where its times are to be looked at too (`evaluation.recency`); None otherwise, and for a
            log on disk.
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
    draft: Draft | None = None
    panel: Panel | None = None
    log: InteractionLog | None = None
    draft_is_whole: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the catalogue, and of who has what in every part of the split: equal for equal data."""
        return fingerprint_of(self.split)

    @property
    def histories(self) -> Path | None:
        """The folder of the training histories, where they are prepared on disk and all of them train."""
        return self.draft.path() / "train" if self.draft is not None and self.draft_is_whole else None

    def exclusions(self) -> list[dict[str, str]]:
        """Exclusions of the preparation for the privacy card; without counts, which would be raw statistics."""
        left = [f"the {self.filtered}"] if self.filtered else []
        left += [self.split.excluded] if self.split.excluded else []
        return [
            {
                "what": f"data preparation: what lies outside {each} was left out",
                "reason": "made on raw data before the experiment, not charged",
            }
            for each in left
        ]


def prepare(config: SimulationConfig, source: Source | None = None, notify: Notify = silent) -> Prepared:
    """Read, filter and split; a large log on disk.

    Args:
        config: the run's configuration.
        source: a log that replaces the configured one: a path, a registered name or a data frame.
        notify: called with progress events.

    Raises:
        InputError: the log can't be read, nothing is left of it, or the disk is full.
    """
    draft = Draft(config.data.cache)
    try:
        return _prepared(config, source, draft, notify)
    except BaseException as error:
        draft.discard()  # an exception refers to what was read
        if isinstance(error, OSError):
            raise no_room(error) from None
        raise


def _prepared(config: SimulationConfig, source: Source | None, draft: Draft, notify: Notify) -> Prepared:
    """Prepare a log, in memory or, where it is large, in the draft."""
    log = read(config, source, Workspace(notify, draft.path, config.data.rows_in_memory))
    dropped: dict[str, int] = {}
    bounds = ""
    if config.filters.user_core > 1 or config.filters.item_core > 1:
        log, narrowed = k_core(log, config.filters.user_core, config.filters.item_core, notify=notify)
        bounds = f"({config.filters.user_core},{config.filters.item_core})-core"
        dropped |= {f"{name} outside the {bounds}": count for name, count in narrowed.items()}
    pairs = weighed(log, config, timed=config.split.name in NEEDS_TIMES, notify=notify, folder=draft.path)
    dropped |= pairs.excluded
    name, catalogue, repairs, terms, large = log.name, log.items, log.repairs, log.terms, log.rows.on_disk
    dated = log if config.evaluation.recency and "times" in log.rows.names and not large else None
    del log  # and with it what lies on disk of it
    chosen, folder = config.split, draft.path() if large else None
    cut = split(
        pairs, chosen.name, seed=config.seed, held_out_users=chosen.held_out_users, folder=folder, notify=notify
    )
    del pairs
    _check_negatives(cut)
    kept = draft if large else None
    found = Prepared(name, cut, catalogue, {}, repairs, dropped, terms, bounds, draft=kept, log=dated)
    return _with_inputs(config, found, notify)


def _with_inputs(config: SimulationConfig, prepared: Prepared, notify: Notify) -> Prepared:
    """The same with the configured features and panel, and the domains of its items."""
    catalogue, items = prepared.catalogue, prepared.split.items
    features, widths = run_features(catalogue, items, config)
    inputs: State = {} if features is None else {FEATURES: features}
    prepared = replace(prepared, inputs=inputs, domains=domains_of(catalogue, items), sources=widths)
    return prepared if config.data.panel is None else _with_panel(config, prepared, notify)


def _with_panel(config: SimulationConfig, prepared: Prepared, notify: Notify) -> Prepared:
    """The same with the model of the configured panel, and without its people if they stay apart."""
    data, cut = config.data, prepared.split
    if isinstance(data.panel, str):
        return _with_open_log(config, data.panel, prepared, notify)
    rows = choose(cut.train, float(data.panel or 0), seed=config.seed)
    people = cut.train.users(rows)
    with step(notify, "fitting the panel"):
        inputs = fit_panel(people, seed=config.seed)
    origin = f"{100 * float(data.panel or 0):g} % of the training users, drawn at random"
    return _panelled(prepared, Panel(inputs, people.nnz, origin, data.panel_apart), rows)


def _with_open_log(config: SimulationConfig, place: str, prepared: Prepared, notify: Notify) -> Prepared:
    """The same with the model of an open log's people: strangers, or users, of whom nobody is held out."""
    setting, data, cut = "data.panel", config.data, prepared.split
    if is_starter(place):
        opened = panel_of(place, cut.items, setting, published_facts(prepared.catalogue, cut.items))
        origin, licence = opened.about["origin"], data.panel_licence or opened.about["licence"]
        found = Panel(opened.inputs, opened.interactions, origin, True, 0, opened.matched.how, licence)
        return _panelled(prepared, found, check_others((), cut.train_users, setting=setting))
    columns = {name: None if column == "" else column for name, column in data.columns.items()}
    workspace = Workspace(notify, None, data.rows_in_memory)
    with reading(setting):
        log = load(place, columns=columns or None, workspace=workspace)
        pairs = weighed(log, config, timed=False, notify=notify)
    with step(notify, "matching the panel's items"):
        facts = published_facts(prepared.catalogue, cut.items)
        matched = match_items(pairs.items, cut.items, their_facts=published_facts(log.items, pairs.items), facts=facts)
    users = data.panel_people == "users"
    parts = (part for part in (cut.validation, cut.test) if users and part is not None)
    held_out = {user for part in parts for user in part.users}
    people, names, out = people_of(pairs, cut.items, matched, setting=setting, without=held_out.__contains__)
    if data.panel_people is None:
        check_strangers(names, people, cut.train_users, cut.train, setting=setting)
    rows = check_others(names if users else (), cut.train_users, setting=setting)
    with step(notify, "fitting the panel"):
        inputs = fit_panel(people, seed=config.seed)
    apart, licence = data.panel_apart or not users, data.panel_licence or log.terms
    return _panelled(prepared, Panel(inputs, people.nnz, origin_of(place), apart, out, matched.how, licence), rows)


def _panelled(prepared: Prepared, panel: Panel, rows: npt.NDArray[np.int64]) -> Prepared:
    """The same with a panel, and without its people, the training users in these rows, if they stay apart."""
    cut, prepared = prepared.split, replace(prepared, inputs=prepared.inputs | panel.inputs, panel=panel)
    if not (panel.apart and len(rows)):
        return prepared
    others = np.setdiff1d(np.arange(cut.train.n_users), rows)
    users = [cut.train_users[row] for row in others.tolist()]
    return replace(prepared, split=replace(cut, train=cut.train.users(others), train_users=users), draft_is_whole=False)


def fingerprint_of(cut: Split) -> str:
    """Hash of a split's catalogue, and of who has what in every part of it; nothing is copied whole.

    It is the hash of one JSON text and the arrays behind it: [name, items, [[users, indptr], ...]], indices, weights.
    """
    parts = [(cut.train_users, cut.train)]
    for heldout in (cut.validation, cut.test):
        parts += [] if heldout is None else [(heldout.users, heldout.foldin), (heldout.users, heldout.target)]
    hashed = hashlib.sha256(canonical_json([cut.name, list(cut.items)])[:-1] + b",[")
    for number, (users, part) in enumerate(parts):
        hashed.update(b"[" if not number else b",[")
        for listed in (users, part.indptr):
            hashed.update(b"[" if listed is users else b",[")
            for first in range(0, len(listed), AT_ONCE):
                chunk = listed[first : first + AT_ONCE]
                values = list(chunk) if listed is users else np.asarray(chunk).tolist()
                hashed.update((b"," if first else b"") + canonical_json(values)[1:-1])
            hashed.update(b"]")
        hashed.update(b"]")
    hashed.update(b"]]")
    for _, part in parts:
        for array in (part.indices, part.weights):
            for first in range(0, len(array), AT_ONCE):
                hashed.update(np.ascontiguousarray(array[first : first + AT_ONCE]).data)
    return hashed.hexdigest()


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


def read(config: SimulationConfig, source: Source | None = None, workspace: Workspace = IN_MEMORY) -> InteractionLog:
    """The configured log, or the one that replaces it.

    Args:
        config: the run's configuration.
        source: a log that replaces the configured one.
        workspace: how it is read.

    Raises:
        InputError: it can't be read.
    """
    data = config.data
    columns = {name: None if column == "" else column for name, column in data.columns.items()}
    if not data.domains:
        return load(
            (data.path or data.name) if source is None else source, columns=columns or None, workspace=workspace
        )
    if source is not None or data.path is not None:
        raise InputError("`data.domains` names the logs: it can't stand beside another log, got both")
    return joined(
        {domain: load(log, columns=columns or None, workspace=workspace) for domain, log in data.domains.items()}
    )


def weighed(
    log: InteractionLog,
    config: SimulationConfig,
    *,
    timed: bool = True,
    notify: Notify = silent,
    folder: Place | None = None,
) -> Pairs:
    """The log's positives as configured.

    Args:
        log: the log.
        config: the run's configuration.
        timed: whether the times of pairs are needed.
        notify: called with progress events.
        folder: gives the folder for pairs whose log is on disk; None: the user's cache.

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
        timed=timed,
        notify=notify,
        folder=folder,
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
        "metrics": list(split_.metrics),
    }
