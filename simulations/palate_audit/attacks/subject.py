"""Subject: a run folder as an attacker sees it who knows all other users: sealed releases, public states, raw data.

The folder is only read. Raw data comes from the run's source, as for `--resume`, or, if that is gone, from the `split/`
that the run saved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from palate_audit.attacks.contributions import Spread, clipped_of, spread
from palate_common.algorithms import Algorithm, State
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError, IntegrityError
from palate_core.plan import RoundPlan
from palate_server.ledger.extract import verify_extract
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.terms import RunTerms
from palate_sim.config import SimulationConfig, build_config
from palate_sim.preparation.preparation import prepare, read
from palate_sim.run.experiment import present
from palate_sim.run.run_folder import RunFolder


@dataclass(frozen=True)
class Sealed:
    """One release of the run, and the public state that its devices contributed to."""

    noisy: NoisyAggregate
    state: State = field(repr=False)

    @property
    def plan(self) -> RoundPlan:
        """The plan that the release was charged under."""
        return self.noisy.plan


@dataclass(frozen=True)
class Data:
    """The run's raw data.

    Attributes:
        train: histories of the users who took part.
        groups: group -> a label for each training user.
        found: where the data was found, in words.
    """

    train: Interactions
    groups: dict[str, tuple[str, ...]]
    found: str


@dataclass(frozen=True)
class Subject:
    """The run that is attacked.

    Attributes:
        path: the run folder.
        terms: what the run promised.
        mu: of its card: the claim; None with dp off.
        epsilon: of its card.
        releases: sealed, in order.
        algorithm: bound to the run's public facts.
        model: the released one.
        inputs: public arrays it started from.
        data: raw.
    """

    path: Path
    terms: RunTerms
    mu: float | None
    epsilon: float | None
    releases: tuple[Sealed, ...]
    algorithm: Algorithm
    model: GlobalModel
    inputs: State
    data: Data

    @property
    def users(self) -> int:
        """Devices that took part."""
        return self.data.train.n_users

    def sent(self, sealed: Sealed, histories: Interactions) -> Spread:
        """The contributions of these histories to a release, in the state that the release started from.

        Args:
            sealed: the release.
            histories: one contribution each.
        """
        return spread(clipped_of(self.algorithm, sealed.state, sealed.plan, histories))

    def total(self, sealed: Sealed) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The exact sum of all contributions to a release."""
        return clipped_of(self.algorithm, sealed.state, sealed.plan, self.data.train).total()

    @property
    def whole(self) -> bool:
        """Whether each release sums exactly the users whose data is known."""
        return all(sealed.noisy.users == self.users for sealed in self.releases)


def load_subject(path: Path) -> Subject:
    """Load a finished run with its data.

    Raises:
        InputError: no finished run, or its data is neither at its source nor in `split/`.
        IntegrityError: a file doesn't match its signature or seal.
    """
    folder = RunFolder(path)
    if not folder.run_file.is_file() or not folder.finished:
        raise InputError(f"`DIR` must be the folder of a finished run, got {path}")
    begun = folder.read()
    config, terms = build_config(begun["config"]), RunTerms.model_validate(begun["terms"])
    try:
        card = json.loads((path / "privacy_card.json").read_bytes())
        extract = verify_extract((path / "ledger.json").read_bytes(), card["public_key"])
        shown = published.read(path / "model", public_key=card["public_key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"`DIR` must have its card, ledger.json and model, got {path}: {error}") from None
    if terms.unit != "user":
        raise InputError(f"the attacks are on users, and this run protects one {terms.unit} of theirs")
    registry = Registry(path)
    inputs = registry.read_inputs(terms.inputs)
    replay, releases = Replay(terms, inputs), list[Sealed]()
    if not terms.mode.private:
        while replay.round < len(replay.algorithm.shares):
            noisy = registry.read_unledgered(replay.round)
            if noisy is None:
                break
            releases.append(Sealed(noisy, replay.model.state))
            replay.apply(noisy)
    for entry in extract.entries:
        if entry.kind == "seal" and entry.run == terms.run:
            state = replay.model.state
            releases.append(Sealed(replay.read(registry, entry.attempt, entry.release_hash), state))
    if not releases:
        raise InputError(f"`DIR` must be a run with a release at least, got {path}")
    data = _data(path, begun, config, terms, shown.items)
    private = terms.mode.private
    mu, epsilon = (card["mu"], card["epsilon"]) if private else (None, None)
    return Subject(path, terms, mu, epsilon, tuple(releases), replay.algorithm, replay.model, inputs, data)


def _data(path: Path, begun: dict[str, Any], config: SimulationConfig, terms: RunTerms, items: Sequence[str]) -> Data:
    """The data from the run's source, or from its split."""
    missing = "the run was started with a data frame"
    if begun["source"] is not None:
        try:
            return _from_source(begun, config)
        except InputError as error:
            missing = str(error)
    if (path / "split" / "train.csv.gz").is_file():
        return _from_split(path / "split", config, terms, items)
    raise InputError(
        "the attacks need the run's raw data, which must be where the run read it or in its split/ "
        f"(--save-recommendations), got neither: {missing}"
    )


def _from_source(begun: dict[str, Any], config: SimulationConfig) -> Data:
    """The data from the source, as `--resume` reads it."""
    prepared = prepare(config, begun["source"])
    if prepared.fingerprint != begun["fingerprint"]:
        raise InputError(f"{begun['source']} holds other interactions than the run was started with")
    cut = prepared.split
    groups: dict[str, tuple[str, ...]] = {}
    people = read(config, begun["source"]).users
    if people is not None and not config.engine.absent:
        rows = people.drop_duplicates("user_id").set_index("user_id").reindex(list(cut.train_users))
        groups = {str(name): tuple(rows[name].fillna("unknown").astype(str)) for name in rows.columns}
    return Data(present(cut.train, config), groups, "the run's source")


def _from_split(folder: Path, config: SimulationConfig, terms: RunTerms, items: Sequence[str]) -> Data:
    """The data from the split that the run saved."""
    place = {item: row for row, item in enumerate(items)}
    frame = pd.read_csv(folder / "train.csv.gz", dtype={"user_id": str, "item_id": str})
    codes, users = pd.factorize(frame["user_id"])
    weights = frame["weight"].fillna(1.0).to_numpy(float) if "weight" in frame else None
    try:
        rows = [place[item] for item in frame["item_id"]]
    except KeyError as error:
        raise InputError(f"`split/` must have the items of the run's model, got {error}") from None
    train = Interactions.from_pairs(codes, rows, weights, n_users=len(users), n_items=len(items))
    if train.n_users != terms.facts.n_users:
        raise InputError(f"`split/` must have the run's {terms.facts.n_users} training users, got {train.n_users}")
    return Data(present(train, config), {}, "split/, which the run saved")
