"""The seam between Palate and a learning algorithm: whoever adds one reads this file and nothing else.

An algorithm says what a device contributes and what the server makes of the noised sum. It never sees clipping,
noise, accounting, signing or transport: whatever `contribute` returns is clipped to norm 1 and charged.

    public state --contribute (device, private histories)--> Update
    noised sums  --release (server, post-processing)-------> next public state
    public state --scores (device, private history)--------> one score an item

To add one: derive from `Algorithm`, define the abstract members, and name the class under the entry point group
`palate.algorithms`. Every other member has a default, which says that the algorithm can't do that; define those that
yours can. An algorithm whose privacy unit is one event derives from `EventAlgorithm`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, Layout, Update

State = dict[str, npt.NDArray[Any]]
"""Named public arrays: all that an algorithm knows between rounds, and what a model file holds."""


class PublicFacts(BaseModel):
    """What everybody knows before the first release, and settings may be derived from for free."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_users: int = Field(ge=1)
    """Installations expected to take part. Participation is not protected."""
    n_items: int = Field(ge=1)
    """Items in the catalogue."""
    mu: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The whole run's privacy parameter (mu-GDP); None without noise."""
    n_features: int = Field(default=0, ge=0)
    """Width of the public item features, 0 without any."""
    seed: int = 0
    """Seed of public randomness, such as a starting table."""
    local: bool = Field(default=False, exclude_if=lambda local: not local)
    """Whether each device adds all of its noise: a sum then has that of `n_users` draws. Not written where False."""
    former_signal: float = Field(default=0.0, ge=0, allow_inf_nan=False, exclude_if=lambda signal: signal == 0)
    """mu x users of the former release a run starts from; 0, and then not written, without a warm start."""

    @property
    def signal(self) -> float:
        """How far a count that all users share stands above the noise of a sum, with the whole budget; inf without.

        mu x users where a sum holds one draw of the charged noise; mu x sqrt(users) where it holds one a user.
        """
        if self.mu is None:
            return math.inf
        return self.mu * (math.sqrt(self.n_users) if self.local else self.n_users)


class Factors(Protocol):
    """A public state whose scores are products of a user's vector and items' vectors.

    A device can then search a large catalogue without scoring all of it, and explain a score exactly. Both ways give
    the same numbers:

        scores(state, histories)  ==  factors(state).users(histories) @ factors(state).items().T

    The columns come in parts, by what they know (see `palate_common.score_sources`). A device can weigh a part, and
    the product stays a product.
    """

    @property
    def parts(self) -> Mapping[str, slice]:
        """Which columns know what; they cover all k columns, in order."""

    @property
    def trust(self) -> Float64:
        """How far each column is trusted after ten events, float64 [k]: by this two items' vectors are compared."""

    def items(self) -> npt.NDArray[np.float32]:
        """The items' vectors, float32 [n_items, k]."""

    def users(self, histories: Interactions) -> Float64:
        """The users' vectors, float64 [n_users, k]. Private: they stay on the device."""

    def events(self, history: Interactions) -> Float64:
        """What each interaction of one user adds to their vector, float64 [nnz, k]. Private as well.

        Their sum is the user's vector, apart from what a user has without any event that counts.
        """


class Algorithm(ABC):
    """One way to learn from noised sums."""

    name: ClassVar[str]
    """What a plan and a model file call it."""
    Settings: ClassVar[type[BaseModel]]
    """A pydantic model of its settings, which refuses unknown keys."""
    unit: ClassVar[Literal["user", "event"]] = "user"
    """Whose contribution is clipped and charged: a user's, or one event's; see `EventAlgorithm`."""
    public_inputs: ClassVar[tuple[str, ...]] = ()
    """Public arrays that it can use, such as `features`. `release` finds those that a run has in the state it is given.

    They stay on the server, unless `release` puts what a device needs of them into the state, under another name. A run
    refuses features that the algorithm doesn't name.
    """
    training_only: ClassVar[tuple[str, ...]] = ()
    """Arrays of the state that `contribute` needs and `scores` doesn't: what devices download to rank by lacks them."""

    @abstractmethod
    def __init__(self, settings: Any, facts: PublicFacts) -> None:
        """Bind validated `Settings` to the public facts."""

    @property
    @abstractmethod
    def shares(self) -> tuple[float, ...]:
        """Each release's share of mu^2, in order; positive, sum 1. Their number is the number of rounds."""

    @abstractmethod
    def start(self) -> State:
        """The public state before round 0."""

    @abstractmethod
    def layout(self, state: State, round_: int) -> Layout:
        """The blocks of round `round_`'s contribution; squared weights sum to 1."""

    @abstractmethod
    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """On the device: one raw contribution a user. Anything above norm 1 is clipped away.

        Each user's must follow from that user's history and the state alone, whoever else is in the batch: clipping
        bounds what a user sends, not what they do to what others send. A user without events contributes too.
        """

    @abstractmethod
    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """On the server, post-processing only: the next public state.

        Args:
            state: the public state the devices contributed to.
            round_: the round that was released.
            sums: noised sum of each block over the cohort, in the block's own units and shape.
            noise: standard deviation of the noise in each coordinate of that block, 0 without DP.
        """

    @abstractmethod
    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """On the device: float [n_users, n_items], higher is better, finite; seen items are not masked."""

    def steps(self, round_: int) -> int:
        """Noised sums that a round charges for: one, unless the unit is an event."""
        return 1

    def factors(self, state: State) -> Factors | None:
        """On the device: the vectors that the scores are products of. None: a device scores item by item."""
        return None

    @property
    def feature_sources(self) -> tuple[str, ...]:
        """Names of the sources of public features that scores keep apart. With two or more, a device weighs them."""
        return ()

    def new_item_scores(
        self, state: State, histories: Interactions, features: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.floating[Any]] | None:
        """Scores of items that no training user had, float [n_users, n_new]. None: it has none, and `scores` stay.

        Args:
            state: of a run with features.
            histories: over the run's catalogue.
            features: of the new items, made like the catalogue's, float [n_new, m].
        """
        return None

    def expected_ratings(self, state: State, histories: Interactions) -> Float64 | None:
        """What each user would rate each item, float64 [n_users, n_items], in the log's units. None: it learns none."""
        return None

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """Public inputs for a later run of the same algorithm, which goes on from this one's final state.

        Args:
            state: after the last release.
            rows: the place of each item among the later ones.
            n_items: how many later ones there are.

        Raises:
            InputError: no run can go on from this state; by default from none.
        """
        raise InputError(f"the algorithm must be one that can go on from a release, got {self.name}")

    @classmethod
    def hands_over(cls) -> bool:
        """Whether it defines `hand_over`."""
        return cls.hand_over is not Algorithm.hand_over


class EventAlgorithm(Algorithm):
    """An algorithm whose privacy unit is one event: noised steps on each device stand in the place of `contribute`.

    A round is `steps(round_)` noised sums over the events that secret coins choose, each event with probability
    `inclusion`. All but the last move the user's own vector, which stays on the device; the last one is sent. See
    `palate_common.rounds.event_steps`, which clips each event's gradient by itself and noises each sum.
    """

    unit = "event"

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """A user contributes nothing.

        Raises:
            InputError: always.
        """
        raise InputError(f"`{self.name}` learns by noised steps on devices: it needs `privacy.unit` event and dp local")

    @property
    @abstractmethod
    def inclusion(self) -> float:
        """With which probability an event takes part in a step; a constant of the settings."""

    @abstractmethod
    def steps(self, round_: int) -> int:
        """Noised sums of a round, the one that is sent included."""

    @abstractmethod
    def user_start(self, state: State, n_users: int) -> Float64:
        """Public vectors to start from, float64 [n_users, d]."""

    @abstractmethod
    def user_gradients(self, state: State, users: Float64, events: Interactions) -> Float64:
        """One gradient an event, of that event, the state and noised vectors alone: float64 [nnz, d]."""

    @abstractmethod
    def user_step(self, users: Float64, sums: Float64) -> Float64:
        """Vectors after a step, from noised sums in units of the clip norm."""

    @abstractmethod
    def item_gradients(self, state: State, round_: int, users: Float64, events: Interactions) -> Update:
        """One row of the update an event, in the plan's layout."""
