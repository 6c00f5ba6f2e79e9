"""`event-mf`: matrix factorisation by noised gradient steps on each device, for dp local and single events as the unit.

The privacy unit is one item of a user's history, protected from everybody, the server included. With an exact user
vector, one event would change the gradients of all others; so gradients use noised user vectors only. A round is
therefore a few steps, each a noised sum:

    user steps   p += rate x (noised sum over sampled events of -d loss / d p)     p starts at 0, and stays here
    item step    noised sum over sampled events of -d loss / d r_i                 this one is sent

The loss of one event on item i is 2 log(1 + e^-s), s = p . r_i. The item rows r are the public table; its mean under
popularity is zero, so no negative items have to be sampled. Each event's gradient is clipped separately. Secret coins
draw the events of a step. Inclusion, steps, rates and normalisers are constants of the plan: they never depend on how
many events a user has. Event weights are not used: with a half-life, one event would change others' gradients.

Round 0 sends noised counts. The server computes directions and the next table from the sums as `als` does, and scores
are those of `als`: to rank, a device folds in its exact history, of which nothing is sent.

Sources: Abadi et al. (2016) for DP-SGD; Hu et al. 2008 and Chien et al. 2021 for the alternation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from palate_common.algorithms.als.algorithm import FEATURES, Als
from palate_common.algorithms.als.plan import AlsSettings
from palate_common.algorithms.als.taste import TINY
from palate_common.algorithms.base import EventAlgorithm, PublicFacts, State
from palate_common.interactions import Interactions, row_squares
from palate_common.mechanism.update import Float64, OuterBlock, Update
from palate_core.errors import InputError


class EventMfSettings(AlsSettings):
    """Settings of `als` without the vote, and of the noised steps."""

    rounds: int | None = Field(default=3, ge=1, le=64)
    vote_share: float | None = Field(default=0.0, ge=0, le=0)
    """Always 0: a ballot belongs to a user, not to an event."""
    pair_items: int | None = Field(default=0, ge=0, le=0)
    """Always 0: a pair belongs to a user, too."""
    inclusion: float = Field(default=1.0, ge=0.001, le=1)
    """q: probability that an event takes part in a step. Below 1 secret coins of the device decide, and the accounting
    uses it."""
    user_steps: int = Field(default=1, ge=1, le=32)
    """Noised steps on the user's vector before the item step, in every round but the first."""
    user_rate: float = Field(default=1.0, gt=0)
    """Step size, relative to a sum over `events_per_user` events."""
    events_per_user: float = Field(default=16.0, ge=1)
    """Public guess of the events a user has, for rates and sizes; it depends on nobody's history."""


class EventMf(EventAlgorithm, Als):
    """Noised counts of events, then noised gradient steps on devices. State: that of `als`."""

    name = "event-mf"
    public_inputs = (FEATURES,)
    Settings = EventMfSettings
    settings: EventMfSettings

    def __init__(self, settings: EventMfSettings, facts: PublicFacts) -> None:
        # Here one event moves a sum as far as a whole user does elsewhere, and a user has many: more signal.
        signal = facts.model_copy(update={"former_signal": 0.0})
        if facts.mu is not None:
            signal = signal.model_copy(update={"mu": facts.mu * float(np.sqrt(settings.events_per_user))})
        super().__init__(settings, signal)
        self.facts = facts

    @property
    def inclusion(self) -> float:
        """Probability that an event takes part in a step."""
        return self.settings.inclusion

    def steps(self, round_: int) -> int:
        """Noised sums of a round, the one that is sent included."""
        return 1 if round_ == 0 else self.settings.user_steps + 1

    def user_start(self, state: State, n_users: int) -> Float64:
        """Every user's vector before the first step: zeros, float64 [n_users, d]."""
        width = state["table"].shape[1] if "table" in state else 1
        return np.zeros((n_users, width))

    def user_gradients(self, state: State, users: Float64, events: Interactions) -> Float64:
        """-d loss / d p of each event, float64 [nnz, d].

        Args:
            state: with the public table.
            users: p, noised, float64 [n_users, d].
            events: the sampled events.
        """
        rows, owners = self._rows(state)[events.indices], events.owners()
        known = rows.any(axis=1)
        error = _error(np.einsum("ij,ij->i", rows, users[owners])) * known
        return np.asarray(error[:, None] * rows, np.float64)

    def user_step(self, users: Float64, sums: Float64) -> Float64:
        """The users' vectors after a step: post-processing of noised sums, float64 [n_users, d]."""
        moved = users + sums * (self.settings.user_rate / (self.inclusion * self.settings.events_per_user))
        # Length 1 at most: for longer vectors the loss saturates, and errors say nothing.
        length = np.sqrt(row_squares(moved))
        return np.asarray(moved / np.maximum(length, 1.0)[:, None], np.float64)

    def item_gradients(self, state: State, round_: int, users: Float64, events: Interactions) -> Update:
        """-d loss / d r_i of each event, one row an event; in round 0 one count.

        Args:
            state: the public state.
            round_: the round.
            users: p, noised; not used in round 0.
            events: the sampled events.
        """
        ones = np.ones(events.nnz)
        if round_ == 0:
            return Update((_one_row_each(events.indices, ones, ones[:, None], events.n_items),), events.nnz)
        head = state["head"]
        rows = np.minimum(np.searchsorted(head, events.indices), len(head) - 1).astype(np.int32)
        owners, inside = events.owners(), head[rows] == events.indices
        directions = users[owners] / np.maximum(np.sqrt(row_squares(users)), TINY)[owners, None]
        table = self._rows(state, whole=False)
        error = np.where(inside, _error(np.einsum("ij,ij->i", table[rows], directions)), 0.0)  # of others: nothing
        return Update((_one_row_each(rows, error, directions, len(head)),), events.nnz)

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """Refuse: a warm start needs sums over users.

        Raises:
            InputError: always.
        """
        raise InputError("a run of `event-mf` can't be started from: its sums are over events")

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """As in `als`, after dividing the sums over events by the constant inclusion."""
        scaled = {name: np.asarray(total / self.inclusion, np.float64) for name, total in sums.items()}
        return super().release(state, round_, scaled, {name: each / self.inclusion for name, each in noise.items()})

    def _rows(self, state: State, *, whole: bool = True) -> Float64:
        """r: the table scaled to mean square length 1 under popularity, for the whole catalogue or the head alone."""
        table, weight = state["table"].astype(np.float64), state["weight"].astype(np.float64)
        mean = float((weight * row_squares(table)).sum() / weight.sum())
        rows = table / max(float(np.sqrt(mean)), TINY)
        if not whole:
            return rows
        everything = np.zeros((self.facts.n_items, rows.shape[1]))
        everything[state["head"]] = rows
        return everything


def _error(scores: Float64) -> Float64:
    """-d loss / d s = 2 / (1 + e^s): 1 where nothing is known yet."""
    return np.asarray(2 / (1 + np.exp(np.clip(scores, -50, 50))), np.float64)


def _one_row_each(rows: npt.NDArray[np.int32], factors: Float64, columns: Float64, n_rows: int) -> OuterBlock:
    """A block in which each event has one row."""
    return OuterBlock(np.arange(len(rows) + 1, dtype=np.int64), rows.astype(np.int32), factors, columns, n_rows)
