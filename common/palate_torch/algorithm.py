"""ModuleAlgorithm: a torch module as a learning algorithm like any other.

    public arrays --tensors--> module --changes of each user--> contribution: item rows [h W], shared [S]
    noised sums --server step, the one of `sgd`--> public arrays

Round 0 releases noised popularity, and the module learns the items of its head. In each later round a device rebuilds
the private side from its own events, takes `local_steps` full-batch steps on the item side, and sends the change over
S, clipped. The weight of a user in the loss, the clip and the server's momentum are those of `sgd`.

Sources: McMahan et al., Learning Differentially Private Recurrent Language Models (ICLR 2018), algorithm 1, flat
clipping, with every user in every round and no amplification by sampling claimed; Singhal et al., Federated
Reconstruction (NeurIPS 2021), algorithm 1; Reddi et al., Adaptive Federated Optimization (ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from palate_common.algorithms import Algorithm, PublicFacts, State, add_adapter
from palate_common.algorithms.parts.head import HEAD, WEIGHT, choose_head, head_size, split_budget, with_tail
from palate_common.algorithms.parts.server_steps import momentum_step
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update, user_weights
from palate_common.interactions import Interactions, segment_sum
from palate_common.mechanism.update import Block, DenseBlock, Float64, OuterBlock, Update
from palate_core.layout import BlockSpec, Layout
from palate_torch.checks import check_class, check_computes, make_module
from palate_torch.functional import FEATURES, Functional, Tensors, one_thread
from palate_torch.local_items import Batch, LocalItems, batches, local_items
from palate_torch.parameters import FEATURES_OF_HEAD, Parameters
from palate_torch.recommender import Catalogue, Events, Recommender
from palate_torch.settings import ModuleSettings, later_rounds, server_rates

ROWS, SHARED = "rows", "shared"
TINY = 1e-12
SCORED_AT_ONCE = 2**21
"""About how many scores are computed at once."""


class ModuleAlgorithm(Algorithm):
    """Noised counts, then noised steps on a module's parameters.

    State, all of it public: `counts` [n_items]; `head` and `weight` [h] (see `choose_head`); `module.NAME`, each
    parameter; `head_features` [h, m], where the module uses features;
    `momentum.rows` [h, W] and `momentum.shared` [S], the server's running step.
    """

    name: ClassVar[str] = ""
    module: ClassVar[type[Recommender]] = Recommender
    Settings: ClassVar[type[ModuleSettings]] = ModuleSettings
    public_inputs: ClassVar[tuple[str, ...]] = (FEATURES,)
    training_only: ClassVar[tuple[str, ...]] = (f"momentum.{ROWS}", f"momentum.{SHARED}")
    item_arrays: ClassVar[tuple[str, ...]] = (COUNTS,)

    def __init__(self, settings: ModuleSettings, facts: PublicFacts) -> None:
        self.settings, self.facts = settings, facts
        check_computes(self.module, settings, facts.n_features)
        self.head_items = head_size(facts, 0.9, settings.head_items)
        self.later = later_rounds(settings, facts)
        self.scale = facts.n_items ** (settings.user_exponent - 0.5)
        self._made = make_module(self.module, settings, Catalogue(self.head_items, facts.n_features), facts.seed)
        self._parameters = Parameters.of(self._made, self.head_items)
        self._n_features = facts.n_features if FEATURES in dict(self._made.named_buffers()) else 0
        self._functional = Functional(self._made, settings)

    @property
    def shares(self) -> tuple[float, ...]:
        """Round 0's share, then equal shares."""
        return split_budget(self.settings.first_share, self.later)

    def start(self) -> State:
        """Zero counts."""
        return {COUNTS: np.zeros(self.facts.n_items, np.float32)}

    def layout(self, state: State, round_: int) -> Layout:
        """Round 0: counts. Later: changes of item rows and of shared parameters."""
        if round_ == 0:
            return popularity_layout(self.facts.n_items)
        sizes = {ROWS: self.head_items * self._parameters.width, SHARED: self._parameters.shared_size}
        return tuple(
            BlockSpec(name=name, shape=(size,), weight=self._weights[name]) for name, size in sizes.items() if size
        )

    @property
    def _weights(self) -> dict[str, float]:
        """Each block's weight in the layout."""
        share = self.settings.shared_share
        if not self._parameters.shared_size or not self._parameters.width:
            return {ROWS: 1.0, SHARED: 1.0}
        return {ROWS: (1 - share) ** 0.5, SHARED: share**0.5}

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Round 0: item weights, norm 1. Later: the change of all parameters divided by S, to be clipped."""
        if round_ == 0:
            return popularity_update(histories)
        seen = histories.columns(state[HEAD])
        local = self._local(seen, round_)
        rows, shared = self._changes(state, local)
        strength = segment_sum(histories.weights.astype(np.float64) ** 2, histories.indptr)
        weights = user_weights(strength, exponent=self.settings.user_exponent, n_items=self.facts.n_items)
        sent = weights / self.settings.clip_norm
        blocks: list[Block] = []
        if self._parameters.width:
            blocks.append(self._row_block(local, rows * np.repeat(sent, np.diff(local.indptr))[:, None]))
        if self._parameters.shared_size:
            blocks.append(DenseBlock(shared * sent[:, None]))
        return Update(tuple(blocks), histories.n_users)

    def _local(self, seen: Interactions, round_: int) -> LocalItems:
        """The items that each user trains on in a round; for a ranking, those of round 0."""
        key = (self.facts.seed << 16) + round_
        return local_items(seen, negatives=self.settings.negatives, most=self.settings.max_events, key=key)

    def _row_block(self, local: LocalItems, rows: Float64) -> OuterBlock:
        """The changes as a sparse vector over the numbers of all item rows."""
        width = self._parameters.width
        numbers = local.indices[:, None] * np.int32(width) + np.arange(width, dtype=np.int32)
        ones = np.ones((len(local.indptr) - 1, 1))
        return OuterBlock(
            local.indptr * width, numbers.ravel().astype(np.int32), rows.ravel(), ones, self.head_items * width
        )

    def _changes(self, state: State, local: LocalItems) -> tuple[Float64, Float64]:
        """Each user's change of their local rows, [nnz, W], and of shared parameters, [n_users, S]."""
        rows = np.zeros((len(local.indices), self._parameters.width))
        shared = np.zeros((len(local.indptr) - 1, self._parameters.shared_size))
        with one_thread():
            common, tables = self._parameters.tensors(state, n_features=self._n_features)
            for batch in batches(local):
                changes = self._functional.changes(common, _gather(tables, batch), _events(batch))
                users = len(batch.users)
                inside = batch.counted[:users] > 0
                entries = (local.indptr[batch.users][:, None] + np.arange(batch.items.shape[1]))[inside]
                first = 0
                for name in self._parameters.rows:
                    part = changes[name].flatten(2) if changes[name].ndim > 2 else changes[name].unsqueeze(2)
                    rows[entries, first : first + part.shape[2]] = part[:users].numpy()[inside]
                    first += part.shape[2]
                first = 0
                for name in self._parameters.shared:
                    part = changes[name].reshape(len(changes[name]), -1)
                    shared[batch.users, first : first + part.shape[1]] = part[:users].numpy()
                    first += part.shape[1]
        return rows, shared

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """Head and starting parameters after round 0, then one step."""
        if round_ == 0:
            return self._first(sums[COUNTS], noise[COUNTS], state.get(FEATURES))
        settings = self.settings
        # Constant steps, then smaller ones, over which the noise averages out.
        slowing = min(1.0, 2 * (self.later + 1 - round_) / (self.later + 1))
        rates = server_rates(settings, self.facts)
        users = self.facts.n_users * self.scale
        moved, held = dict(state), dict(zip((ROWS, SHARED), self._parameters.blocks(state), strict=True))
        for block, rate in zip((ROWS, SHARED), rates, strict=True):
            if block not in sums:
                continue
            direction = sums[block].reshape(held[block].shape) * (settings.clip_norm / users)
            momentum = state[f"momentum.{block}"].astype(np.float64)
            step = momentum_step(momentum, direction, rate=rate * slowing, decay=settings.momentum)
            moved[f"momentum.{block}"] = step.astype(np.float32)
            held[block] = held[block] + step
        return moved | self._parameters.arrays(held[ROWS], held[SHARED])

    def _first(self, counts: Float64, noise: float, features: npt.NDArray[np.floating[Any]] | None) -> State:
        """The state after round 0: the head, and the module's starting parameters, given the head's popularity."""
        state = choose_head(counts, noise, self.head_items)
        module = make_module(
            self.module, self.settings, Catalogue(self.head_items, self.facts.n_features), self.facts.seed
        )
        with one_thread():
            module.start(torch.from_numpy(self._popularity(counts, noise)[state[HEAD]]))
            started = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
        state |= {f"module.{name}": np.array(array, np.float32) for name, array in started.items()}
        if features is not None and self._n_features:
            state[FEATURES_OF_HEAD] = _standardise(features[state[HEAD]].astype(np.float64), state[WEIGHT])
        state[f"momentum.{ROWS}"] = np.zeros((self.head_items, self._parameters.width), np.float32)
        state[f"momentum.{SHARED}"] = np.zeros(self._parameters.shared_size, np.float32)
        return state

    def _popularity(self, counts: Float64, noise: float) -> npt.NDArray[np.float32]:
        """About the share of users with each item: a user with k items adds k^-1/2 for each to the counts."""
        length = max(float(np.maximum(counts, 0).sum()) / self.facts.n_users, 1.0) ** 2
        floored = np.maximum(counts, max(noise, 0.01 * float(counts.max()), TINY))
        return np.asarray(np.minimum(floored * (length**0.5 / self.facts.n_users), 1.0), np.float32)

    def settings_of(self, state: State) -> dict[str, Any]:
        """A module is of the head that the state has."""
        return {"head_items": len(state[HEAD])} if HEAD in state else {}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """The module's scores of head items, tail items below; popularity for users whose scores aren't finite."""
        if HEAD not in state:
            return np.broadcast_to(state[COUNTS], (histories.n_users, histories.n_items))
        seen = histories.columns(state[HEAD])
        scores = np.full((histories.n_users, self.head_items), np.nan)
        with one_thread():
            common, tables = self._parameters.tensors(state, n_features=self._n_features)
            for batch in batches(self._local(seen, 0)):
                at_once = max(1, SCORED_AT_ONCE // self.head_items)
                for first in range(0, len(batch.users), at_once):
                    part = slice(first, min(first + at_once, len(batch.users)))
                    users = batch.users[part]
                    rows, events = _gather(tables, batch, part), _events(batch, part)
                    whole = _whole(seen.users(users))
                    scores[users] = self._functional.scores(common, tables, rows, events, whole).numpy()
        known = np.isfinite(scores).all(axis=1)
        return with_tail(state, np.where(known[:, None], scores, 0.0), known)


def federated(module: type[Recommender], name: str) -> type[ModuleAlgorithm]:
    """The algorithm class of a module.

    Args:
        module: a subclass of `Recommender`.
        name: the algorithm's name.

    Raises:
        InputError: the class lacks a member of the protocol.
    """
    found = _FEDERATED.get((module, name))
    if found is not None:
        return found
    check_class(module)
    members = {"name": name, "module": module, "Settings": module.Settings, "__doc__": module.__doc__}
    return _FEDERATED.setdefault((module, name), type(module.__name__, (ModuleAlgorithm,), members))


_FEDERATED: dict[tuple[type[Recommender], str], type[ModuleAlgorithm]] = {}
"""One class for each module and name."""
add_adapter(Recommender, federated)


def _standardise(features: Float64, popularity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Features minus their mean under popularity, scaled to mean square 1."""
    centred = features - popularity / popularity.sum() @ features
    return np.asarray(centred / max(float(np.sqrt(np.mean(centred**2))), TINY), np.float32)


EVERYBODY = slice(None)


def _gather(tables: Tensors, batch: Batch, part: slice = EVERYBODY) -> Tensors:
    """Each user's rows of the tables, zeros where no item is counted: [B, length, ...]."""
    items, counted = torch.from_numpy(batch.items[part]), torch.from_numpy(batch.counted[part])
    shapes = {name: (*counted.shape, *(1 for _ in table.shape[1:])) for name, table in tables.items()}
    return {name: table[items] * counted.reshape(shapes[name]) for name, table in tables.items()}


def _events(batch: Batch, part: slice = EVERYBODY) -> Events:
    """A batch's events as tensors [B, length]."""
    weights, counted = torch.from_numpy(batch.weights[part]), torch.from_numpy(batch.counted[part])
    return Events(weights, (weights > 0).float(), counted)


def _whole(seen: Interactions) -> Events:
    """Events over the whole head, [B, h]."""
    weights = np.zeros((seen.n_users, seen.n_items), np.float32)
    weights[seen.owners(), seen.indices] = seen.weights
    tensor = torch.from_numpy(weights)
    return Events(tensor, (tensor > 0).float(), torch.ones_like(tensor))
