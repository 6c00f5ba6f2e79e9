"""`event-mf`: matrix factorisation by noised gradient steps on each device, for dp local and single events as the unit.

What is protected is one item of a user's history, against everybody, the server included. So nothing that follows from
events may enter a gradient without noise of its own, a user's vector included: a vector that is folded in exactly moves
every other event's gradient when one event changes. A round is therefore a few steps, each a noised sum:

    user steps   p += rate x (noised sum over sampled events of -d loss / d p)     p starts at 0, and stays here
    item step    noised sum over sampled events of -d loss / d r_i                 this one is sent

with the loss of one event, on item i, 2 log(1 + e^-s), s = p . r_i: the item rows r are the public table, whose mean
under popularity is zero, so that nothing has to be sampled against what a user has. Each event's gradient is clipped by
itself. Which events take part in a step is drawn by secret coins; inclusion, steps, rates and normalisers are
constants of the plan and never follow from how many events a user has. Weights of events are not used: a half-life,
say, would let one event change others' gradients.

Round 0 sends noised counts. The server makes directions and the next table of the sums, as `als` does, whose
scores it shares; a ranking device folds its history in exactly, as nothing of that is sent.

Sources: Abadi et al. (2016) for DP-SGD; Hu et al. 2008 and Chien et al. 2021 for the alternation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from palate_common.algorithms.als.algorithm import FEATURES, Als, AlsSettings
from palate_common.algorithms.als.taste import TINY
from palate_common.algorithms.base import EventAlgorithm, PublicFacts, State
from palate_common.algorithms.popularity import COUNTS
from palate_common.errors import InputError
from palate_common.interactions import Interactions, row_squares
from palate_common.mechanism.update import Float64, OuterBlock, Update


class EventMfSettings(AlsSettings):
    """Those of `als` that make sense without a vote, and the steps."""

    rounds: int | None = Field(default=3, ge=1, le=64)
    vote_share: float | None = Field(default=0.0, ge=0, le=0)
    """There is none: a ballot is a user's, and not an event's."""
    inclusion: float = Field(default=1.0, ge=0.001, le=1)
    """q: the probability with which an event takes part in a step; below 1 a secret coin of the device decides, and it
    is accounted for."""
    user_steps: int = Field(default=1, ge=1, le=32)
    """Noised steps on the user's vector before the item step, in every round but the first."""
    user_rate: float = Field(default=1.0, gt=0)
    """A step's size, in sums over `events_per_user` events."""
    events_per_user: float = Field(default=16.0, ge=1)
    """A public guess, for rates and sizes: nobody's history changes it."""


class EventMf(EventAlgorithm, Als):
    """Noised counts of events, then noised gradient steps on devices. State: that of `als`."""

    name = "event-mf"
    public_inputs = (FEATURES,)
    Settings = EventMfSettings
    settings: EventMfSettings

    def __init__(self, settings: EventMfSettings, facts: PublicFacts) -> None:
        # An event moves a sum as far as a user does elsewhere, and a user has many: the signal is that much stronger.
        signal = facts.model_copy(update={"former_signal": 0.0})
        if facts.mu is not None:
            signal = signal.model_copy(update={"mu": facts.mu * float(np.sqrt(settings.events_per_user))})
        super().__init__(settings, signal)
        self.facts = facts

    @property
    def inclusion(self) -> float:
        """With which probability an event takes part in a step."""
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
            events: those that take part.
        """
        rows, owners = self._rows(state)[events.indices], events.owners()
        known = rows.any(axis=1)
        error = _error(np.einsum("ij,ij->i", rows, users[owners])) * known
        return np.asarray(error[:, None] * rows, np.float64)

    def user_step(self, users: Float64, sums: Float64) -> Float64:
        """The users' vectors after a step: post-processing of noised sums, float64 [n_users, d]."""
        moved = users + sums * (self.settings.user_rate / (self.inclusion * self.settings.events_per_user))
        # No step may take a vector further than where its errors still tell something.
        length = np.sqrt(row_squares(moved))
        return np.asarray(moved / np.maximum(length, 1.0)[:, None], np.float64)

    def item_gradients(self, state: State, round_: int, users: Float64, events: Interactions) -> Update:
        """-d loss / d r_i of each event, one row an event; in round 0 one count.

        Args:
            state: the public state.
            round_: the round.
            users: p, noised; not used in round 0, whose counts are a sketch where there is one.
            events: those that take part.
        """
        ones = np.ones(events.nnz)
        if round_ == 0:
            block = _one_row_each(events.indices, ones, ones[:, None], events.n_items)
            return Update((self.sketch.fold(block),), events.nnz)
        head = state["head"]
        place = np.searchsorted(head, events.indices)
        inside = (place < len(head)) & (head[np.minimum(place, len(head) - 1)] == events.indices)
        owners, rows = events.owners()[inside], place[inside].astype(np.int32)
        directions = users[owners] / np.maximum(np.sqrt(row_squares(users)), TINY)[owners, None]
        table = self._rows(state, whole=False)
        error = _error(np.einsum("ij,ij->i", table[rows], directions))
        return Update((_one_row_each(rows, error, directions, len(head)),), int(inside.sum()))

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """Nothing: a warm start counts users.

        Raises:
            InputError: always.
        """
        raise InputError("a run of `event-mf` can't be started from: its sums are over events")

    def release(
        self, state: State, round_: int, sums: Mapping[str, npt.NDArray[np.float64]], noise: Mapping[str, float]
    ) -> State:
        """As `als`, from sums over events: divided by the inclusion, which is a constant."""
        scaled = {name: np.asarray(total / self.inclusion, np.float64) for name, total in sums.items()}
        return super().release(state, round_, scaled, {name: each / self.inclusion for name, each in noise.items()})

    def _energy_and_length(self, state: State) -> tuple[float, float]:
        """Of histories whose every event has norm 1: users have that of their events, whose mean number counts tell."""
        users = self.facts.n_users
        length = max(float(state[COUNTS][state["head"]].astype(np.float64).sum()) / users, 1.0)
        return users**2 * length, length

    def _rows(self, state: State, *, whole: bool = True) -> Float64:
        """r: the table at mean square length 1 under popularity, of the whole catalogue or of the head alone."""
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
