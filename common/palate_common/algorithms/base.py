"""The interface between Palate and a learning algorithm: to add one, you need to read only this file.

An algorithm says what a device contributes and what the server computes from the noised sum. It doesn't deal with
clipping, noise, accounting, signing or transport: whatever `contribute` returns is clipped to norm 1 and charged.

    public state --contribute (device, private histories)--> Update
    noised sums  --release (server, post-processing)-------> next public state
    public state --scores (device, private history)--------> one score an item

To add one: derive from `Algorithm`, define the abstract members, and name the class under the entry point group
`palate.algorithms`. The other members are optional: their defaults say that the algorithm lacks that ability. An
algorithm whose privacy unit is one event derives from `EventAlgorithm`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.algorithms.parts.links import Links
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, Update
from palate_core.errors import InputError, IntegrityError
from palate_core.layout import Layout
from palate_core.plan import RoundPlan

State = dict[str, npt.NDArray[Any]]
"""Named public arrays: all that an algorithm knows between rounds, and what a model file holds."""


class PublicFacts(BaseModel):
    """Public numbers known before the first release. Settings derived from them cost no privacy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_users: int = Field(ge=1)
    """Installations expected to take part. Participation is not protected."""
    n_items: int = Field(ge=1)
    """Items in the catalogue."""
    mu: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The whole run's privacy parameter (mu-GDP); None without noise."""
    n_features: int = Field(default=0, ge=0)
    """Width of the public item features, 0 without any."""
    panel_users: int = Field(default=0, ge=0, exclude_if=lambda users: users == 0)
    """People whose log is open and whose links are a public input, 0 without any. Then left out of JSON."""
    seed: int = 0
    """Seed of public randomness, such as a starting table."""
    local: bool = Field(default=False, exclude_if=lambda local: not local)
    """Whether each device adds the full noise: a sum then holds `n_users` draws of it. Left out of JSON if False."""
    subcohorts: int = Field(default=1, ge=1, exclude_if=lambda number: number == 1)
    """Sub-cohorts of a round, each with all of the noise: a sum holds as many draws of it. Left out of JSON if 1."""
    former_signal: float = Field(default=0.0, ge=0, allow_inf_nan=False, exclude_if=lambda signal: signal == 0)
    """mu x users of the former release that a run starts from. Without a warm start 0, and left out of JSON."""

    @property
    def signal(self) -> float:
        """Signal-to-noise ratio of a count that all users share, in a sum with the whole budget; inf without noise.

        mu x users where a sum holds one draw of the charged noise; mu x sqrt(users) where each user adds one, and
        mu x users / sqrt(k) where each of k sub-cohorts does.
        """
        if self.mu is None:
            return math.inf
        return self.mu * (math.sqrt(self.n_users) if self.local else self.n_users / math.sqrt(self.subcohorts))


def facts_of(plan: RoundPlan) -> PublicFacts:
    """The facts that a plan names.

    Raises:
        IntegrityError: it names others.
    """
    try:
        return PublicFacts.model_validate(plan.facts)
    except ValidationError as error:
        raise IntegrityError(
            f"`facts` of a plan must be an algorithm's, got {error.error_count()} wrong ones"
        ) from None


@dataclass(frozen=True)
class Fold:
    """One user's vector. Private: it stays on the device.

    Attributes:
        vector: as `Factors.users` gives it, float64 [k].
        events: returns what each interaction adds, as `Factors.events` does.
        subsets: returns the vectors of users who have a part each of the history, `kept` bool [n, nnz]: those of
            `Factors.users`, but for rounding, float64 [n, k].
    """

    vector: Float64 = field(repr=False)
    events: Callable[[], Float64] = field(repr=False)
    subsets: Callable[[npt.NDArray[np.bool_]], Float64] = field(repr=False)


class Factors(Protocol):
    """Scores in factorised form: a score is the dot product of a user's vector and an item's vector.

    With it a device can search a large catalogue without scoring all of it, and explain a score exactly:

        scores(state, histories)  ==  factors(state).users(histories) @ factors(state).items().T

    The columns are grouped by the information they use (see `palate_common.score_sources`). A device can weight a
    group, and scores are still dot products.

    Beside the columns a model may have links (see `palate_common.algorithms.parts.links`), which add to a few scores:

        scores  +=  sum over sources of  links[source].scores(histories, amounts(source, histories))
    """

    @property
    def parts(self) -> Mapping[str, slice]:
        """Score source -> its columns; together they cover all k columns, in order."""

    @property
    def trust(self) -> Float64:
        """Shrinkage of each column after ten events, float64 [k]. It weights columns when two items are compared."""

    def items(self) -> npt.NDArray[np.float32]:
        """The items' vectors, float32 [n_items, k]."""

    def users(self, histories: Interactions) -> Float64:
        """The users' vectors, float64 [n_users, k]. Private: they stay on the device."""

    def events(self, history: Interactions) -> Float64:
        """What each interaction of one user adds to their vector, float64 [nnz, k]. Private as well.

        The rows sum to the user's vector, apart from a default part that comes from no event.
        """

    def fold(self, history: Interactions) -> Fold:
        """One user's vector, and what else a device asks about it: where that can be computed together, override it."""
        return Fold(
            self.users(history)[0], lambda: self.events(history), lambda kept: self.users(history.subsets(kept))
        )

    @property
    def links(self) -> Mapping[str, Links]:
        """Score source -> links that add to its part of a score. Their sources aren't among `parts`. Empty: none."""
        return {}

    def amounts(self, source: str, histories: Interactions) -> Float64:
        """How much the links of each interaction count, float64 [nnz]; of the same user's, it depends on how many."""
        return np.zeros(histories.nnz)


@dataclass(frozen=True)
class Reach:
    """What an algorithm promises of a block of every contribution, beside the joint clip.

    A server calls a sum impossible that breaks it, and releases nothing (`palate_server.rounds.possible`): a promise
    must hold for each user, whatever they did.

    Attributes:
        unit: whether the block's norm, before its weight, is at most 1 by itself.
        positive: whether no number of it is ever below 0.
    """

    unit: bool = False
    positive: bool = False


class Algorithm(ABC):
    """Base class of algorithms that learn from noised sums."""

    name: ClassVar[str]
    """Its name in plans and model files."""
    Settings: ClassVar[type[BaseModel]]
    """The pydantic model of its settings; it must refuse unknown keys."""
    unit: ClassVar[Literal["user", "event"]] = "user"
    """Privacy unit: whether the contribution of a user or of one event is clipped and charged, see `EventAlgorithm`."""
    public_inputs: ClassVar[tuple[str, ...]] = ()
    """Public arrays that it can use, such as `features`. `release` gets those that a run has, as part of its state.

    They stay on the server: what devices need of them, `release` must store in the state under another name. A run
    refuses features that the algorithm doesn't name.
    """
    training_only: ClassVar[tuple[str, ...]] = ()
    """Arrays of the state that only `contribute` needs: models that devices download for ranking lack them."""
    item_arrays: ClassVar[tuple[str, ...]] = ()
    """Arrays of the state with a row for each item of the catalogue, in its order, that mean the same in every run.

    Directions that each run finds anew mean something else in the next one.
    """

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

    def opening(self, inputs: State) -> State:
        """The public state before round 0 of a run with these public inputs: by default `start()`, without them."""
        return self.start()

    @abstractmethod
    def layout(self, state: State, round_: int) -> Layout:
        """The blocks of round `round_`'s contribution; squared weights sum to 1."""

    @abstractmethod
    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """On the device: each user's raw contribution. It is then clipped to norm 1.

        A user's contribution must depend only on that user's history and the state, not on others in the batch:
        clipping bounds what a user sends, not their influence on others. A user without events contributes too.
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

    def reach(self, block: str) -> Reach:
        """What is promised of a block of `contribute`, by its name. By default nothing but the joint clip."""
        return Reach()

    def steps(self, round_: int) -> int:
        """Noised sums that a round charges for: one, unless the unit is an event."""
        return 1

    def factors(self, state: State) -> Factors | None:
        """On the device: the scores in factorised form. None: there is no such form, and a device scores each item."""
        return None

    @property
    def feature_sources(self) -> tuple[str, ...]:
        """Names of the feature sources whose parts of a score are kept apart. A device can weight two or more."""
        return ()

    def new_item_scores(
        self, state: State, histories: Interactions, features: npt.NDArray[np.floating[Any]]
    ) -> npt.NDArray[np.floating[Any]] | None:
        """Scores of items that no training user had, float [n_users, n_new]. None: it can't score new items.

        Args:
            state: public state of a run with features.
            histories: over the run's catalogue.
            features: features of the new items, computed like the catalogue's, float [n_new, m].
        """
        return None

    def expected_ratings(self, state: State, histories: Interactions) -> Float64 | None:
        """Expected ratings in the log's units, float64 [n_users, n_items]. None: it learns no ratings."""
        return None

    def grown(self, state: State, n_items: int) -> State:
        """A state over a catalogue to whose end items were added after the last release; this algorithm is of that one.

        It is post-processing. By default each of `item_arrays` gets rows, those of `start` where it has them and else
        zeros, and all else stays. An algorithm whose states have other arrays with a row for each item adds theirs.

        Args:
            state: over the first items of the catalogue; with the public inputs that the algorithm names, as `release`
                has them.
            n_items: size of the catalogue.
        """
        found, start = dict(state), self.start()
        for name in self.item_arrays:
            if name in state:
                had = state[name]
                added = np.zeros((n_items - len(had), *had.shape[1:]), had.dtype)
                if name in start and start[name].shape[1:] == had.shape[1:]:
                    added[:] = start[name][len(had) :]
                found[name] = np.concatenate([had, added])
        return found

    def settings_of(self, state: State) -> dict[str, Any]:
        """Settings that a state has fixed, for one that `grown` is to read: of a larger catalogue others might follow.

        By default none do.
        """
        return {}

    def hand_over(self, state: State, rows: npt.NDArray[np.int64], n_items: int) -> State:
        """Public inputs for a later run of the same algorithm that starts from this run's final state (warm start).

        Args:
            state: after the last release.
            rows: the row in the later catalogue of each item that the run had: of a state that has `grown` since, of
                its first items.
            n_items: size of the later catalogue.

        Raises:
            InputError: no run can start from this state; the default for every state.
        """
        raise InputError(f"the algorithm must be one that can go on from a release, got {self.name}")

    @classmethod
    def hands_over(cls) -> bool:
        """Whether it defines `hand_over`."""
        return cls.hand_over is not Algorithm.hand_over


class EventAlgorithm(Algorithm):
    """An algorithm whose privacy unit is one event: each device takes noised steps instead of `contribute`.

    A round makes `steps(round_)` noised sums. Each is over a secret random sample of the events, every event with
    probability `inclusion`. All sums but the last update the user's vector, which stays on the device; the last is
    sent. `palate_common.rounds.event_steps` clips each event's gradient separately and adds the noise.
    """

    unit = "event"

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Refuse: with events as the unit, users have no contribution.

        Raises:
            InputError: always.
        """
        raise InputError(f"`{self.name}` learns by noised steps on devices: it needs `privacy.unit` event and dp local")

    @property
    @abstractmethod
    def inclusion(self) -> float:
        """Probability that an event takes part in a step; a constant of the settings."""

    @abstractmethod
    def steps(self, round_: int) -> int:
        """Noised sums of a round, the one that is sent included."""

    @abstractmethod
    def user_start(self, state: State, n_users: int) -> Float64:
        """Public starting vectors of users, float64 [n_users, d]."""

    @abstractmethod
    def user_gradients(self, state: State, users: Float64, events: Interactions) -> Float64:
        """Gradients, float64 [nnz, d]; an event's row depends only on that event, the state and noised vectors."""

    @abstractmethod
    def user_step(self, users: Float64, sums: Float64) -> Float64:
        """Users' vectors after a step, float64 [n_users, d], from noised sums in units of the clip norm."""

    @abstractmethod
    def item_gradients(self, state: State, round_: int, users: Float64, events: Interactions) -> Update:
        """The update in the plan's layout, one row for each event."""
