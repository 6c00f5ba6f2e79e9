"""`verdict`: devices judge a model before it is published. Votes are clipped, noised, charged and sealed, as training.

    candidate, model in use -> the run's first state -> a device ranks half of its items by the other half, with both
                            -> whose list gained more; what was shown, and what of it was found -> noised sums

A device hides half of its own items, every second one in a public order, makes either model's list from the others,
and looks which hidden items are in it; then the same with the halves exchanged. It tells three things, each a block of
norm 1 at most:

- `votes`: by which of the two models it gained more; neither, if both gains are equal;
- `found`: what it found by the candidate, each item as 1 / sqrt(how many);
- `shown`: the candidate's two lists, an item that is in one of them as half.

What a device gains is the discounted gain of its hidden items in both lists (DCG: Järvelin and Kekäläinen, Cumulated
Gain-Based Evaluation of IR Techniques, ACM TOIS 20(4), 2002, equation 2, with the discount 1 / log2(rank + 1) from the
first rank on):

    gain = sum over halves, over the hidden items in that half's list, of DISCOUNTS[rank] = 10^6 / log2(rank + 1)

The discounts are whole numbers from a table, so that a sum has no rounding, and equal gains are equal on every device.
A count of finds would say no more than that the last place of the list went to an item that nobody has; by the discount
all that stood below a pushed item has lost.

Where one of the models has the same list for everybody (`Ranked`), a find counts 1 at any rank: there the noise swaps
two items in everybody's list at once, and by rank up to 25 % of 2,500 made users lose by an honest model, where 5 %
lose by what they find.

Items that are in quarantine in the candidate are out of the whole verdict: nobody has them to find. Those of the model
in use are in no list of its own, as they are in none of its users': a candidate that shows them again gains by it.

After new items the two models are of different catalogues. The run's is the candidate's, and `rows` says where in it
the items of the model in use are. Votes are then on the items that both have, and no other is in either list; `found`
and `shown` are of the candidate's whole list, as always.

A model that is worse loses votes. An item that is pushed into lists comes to people who haven't got it: it is `shown`
more than it is `found`. What follows from the sums is for the server to say: `palate_server.surveys.verdict`.

What a modified device can do at most: a vote is 1, an item found is 1 / sqrt(h) for an honest device that finds h. One
that clips, and spends its whole norm on one number, moves it by 1 / sqrt(share) of that block, `shown` by sqrt(20)
lists times that; on both `votes`, against each other, their difference by sqrt(2) times that.

>>> facts = PublicFacts(n_users=3, n_items=2, mu=1.0)
>>> popular = JudgedModel(algorithm="popularity", settings={}, facts=facts, model="0" * 64)
>>> judging = Judging(JudgedPair(run="a", candidate=popular, in_use=popular), facts)
>>> {block.name: block.shape for block in judging.layout(judging.start(), 0)}
{'votes': (2,), 'found': (2,), 'shown': (2,)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.als.vote import LIST, hide
from palate_common.algorithms.base import Algorithm, ItemRows, PublicFacts, Reach, State
from palate_common.algorithms.parts.quarantine import rows_of
from palate_common.algorithms.popularity import Ranked, popularity_block
from palate_common.algorithms.registry import make_algorithm, only_counts
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Bools, DenseBlock, Float64, OuterBlock, Update
from palate_core.errors import InputError
from palate_core.layout import BlockSpec, Layout

NAME = "verdict"
CANDIDATE, IN_USE = "candidate", "in_use"
"""Which model an array of the first state is of: its name begins with it."""
ROWS = "rows"
"""Row in the run's catalogue of each item of the model in use, -1 where it has gone. No such array: it is the same."""
VOTES, FOUND, SHOWN = "votes", "found", "shown"
BLOCKS: Mapping[str, float] = {VOTES: 0.3, FOUND: 0.5, SHOWN: 0.2}
"""Block -> its share of the budget."""
NOISE = "noise"
"""Standard deviation of the noise in each of `BLOCKS`, in its order."""
DISCOUNTS = (
    1_000_000, 630_930, 500_000, 430_677, 386_853, 356_207, 333_333, 315_465, 301_030, 289_065,
    278_943, 270_238, 262_650, 255_958, 250_000, 244_651, 239_812, 235_409, 231_378, 227_670,
)  # fmt: skip
"""What a hidden item gains by its rank in a list of `LIST`, in millionths: 1 / log2(rank + 1), rounded."""
EQUAL = (1,) * LIST
"""The same where everybody's list is the same."""
AT_ONCE = 512
"""Users whose lists are made at once."""


class JudgedModel(BaseModel):
    """One of the two models: what its arrays mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    algorithm: str
    settings: dict[str, Any]
    facts: PublicFacts
    model: str = Field(pattern=r"^[0-9a-f]{64}\z")
    """Hash of the whole model, as ledger and manifest have it."""


class JudgedPair(BaseModel):
    """What is judged; public, in the signed plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(min_length=1, max_length=200)
    """The run whose model is judged."""
    candidate: JudgedModel
    """That run's model."""
    in_use: JudgedModel
    """The model that it would take the place of."""


class Judging(Algorithm):
    """The sums of devices' votes on a model.

    **Guarantees:** a vote is one device's: its blocks have norm 1 at most whatever the user did, and honest votes are
        sent as they are; whatever else a device sends is clipped.
    **Guarantees:** votes are on the two models that the plan names: their arrays are in the model that it signs.
    """

    name = NAME
    Settings = JudgedPair

    def __init__(self, settings: JudgedPair, facts: PublicFacts) -> None:
        self.verdict, self.facts = settings, facts
        if settings.candidate.facts.n_items != facts.n_items:
            raise InputError(f"a judged model must have the {facts.n_items} items of the run")
        for judged in (settings.candidate, settings.in_use):
            if only_counts(judged.algorithm):
                raise InputError(f"a judged model must be one that recommends, got {judged.algorithm!r:.80}")

    @property
    def shares(self) -> tuple[float, ...]:
        """The one release has the whole budget."""
        return (1.0,)

    def start(self) -> State:
        """No sums yet, and no models: see `opening`."""
        sizes = {VOTES: 2, FOUND: self.facts.n_items, SHOWN: self.facts.n_items, NOISE: len(BLOCKS)}
        return {name: np.zeros(size) for name, size in sizes.items()}

    def opening(self, inputs: State) -> State:
        """The two models, and where the items of the one are in the other."""
        return self.start() | {name: array for name, array in inputs.items() if _of(name) or name == ROWS}

    def layout(self, state: State, round_: int) -> Layout:
        """The three blocks."""
        return tuple(
            BlockSpec(name=name, shape=(len(state[name]),), weight=float(np.sqrt(share)))
            for name, share in BLOCKS.items()
        )

    def item_rows(self, state: State, round_: int) -> ItemRows:
        """What was found and shown is the items', in their order."""
        every = (np.arange(self.facts.n_items),)
        return {VOTES: (), FOUND: every, SHOWN: every}

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Each user's vote; zeros for who has no items."""
        votes, finds, shown = np.zeros((histories.n_users, 2)), list[Interactions](), list[Interactions]()
        by_rank = EQUAL if self._is_shared(state) else DISCOUNTS
        for first in range(0, histories.n_users, AT_ONCE):
            users = histories.users(slice(first, first + AT_ONCE))
            size = users.n_users, users.n_items
            found, listed = (np.zeros(size, np.int8) for _ in range(2))
            gained = np.zeros(users.n_users)
            halves = hide(users, self.facts.seed)
            for seen, hidden in (halves, halves[::-1]):
                wanted = hidden.dense()
                list_ = self.lists(CANDIDATE, state, seen)
                own = list_.dense()
                listed += own
                found += own & wanted
                latter = self.lists(CANDIDATE, state, seen, shared=True) if ROWS in state else list_
                gained += _gains(latter, wanted, by_rank)
                gained -= _gains(self.lists(IN_USE, state, seen), wanted, by_rank)
            listed[users.counts() == 0] = 0
            votes[first : first + AT_ONCE] = np.stack([gained > 0, gained < 0], axis=1)
            finds.append(_batch_of_counts(found))
            shown.append(_batch_of_counts(listed))
        return Update(
            (
                DenseBlock(votes),
                popularity_block(_concatenate(finds)),
                _divide_weights(_concatenate(shown), by=2 * self._root),
            ),
            histories.n_users,
        )

    @property
    def _root(self) -> float:
        """The norm of a list."""
        return float(np.sqrt(min(LIST, self.facts.n_items)))

    def lists(self, which: str, state: State, histories: Interactions, *, shared: bool = False) -> Interactions:
        """Each user's list by one of the two models, none of what they have: `LIST` items, which weigh their rank.

        Of equal scores the items that come first in the catalogue are taken, and stand first. Scores are compared in
        float32, so that a list is the same in whatever batch it is made.

        Args:
            which: `CANDIDATE` or `IN_USE`.
            state: the first state.
            histories: what is shown to the model.
            shared: whether only items are listed that the model in use has.
        """
        scores = self._scores(which, state, histories)
        if shared:
            scores[:, np.setdiff1d(np.arange(self.facts.n_items), state[ROWS])] = -np.inf
        scores[histories.owners(), histories.indices] = -np.inf
        scores[:, rows_of(state, self.facts.n_items)] = -np.inf  # nobody has them to find: neither model may lose by it
        if which == IN_USE:
            scores[:, self._quarantined_rows(state)] = -np.inf  # nobody who uses it is shown them
        length = min(LIST, self.facts.n_items)
        last = np.partition(scores, -length, axis=1)[:, -length, None]
        surely, maybe = scores > last, scores == last
        taken = surely | (maybe & (np.cumsum(maybe, axis=1) <= length - surely.sum(axis=1, keepdims=True)))
        users, items = np.nonzero(taken & (scores > -np.inf))  # of a small catalogue little may be left
        order = np.lexsort((items, -scores[users, items], users))
        ends = np.searchsorted(users, np.arange(histories.n_users + 1))
        rank = np.arange(len(users)) - ends[users]  # `users` is in order already
        ranks = np.empty(len(users), np.float32)
        ranks[order] = rank + 1
        return Interactions(ends.astype(np.int64), items.astype(np.int32), ranks, self.facts.n_items)

    def _quarantined_rows(self, state: State) -> npt.NDArray[np.int64]:
        """The rows of the items that are in quarantine in the model in use."""
        rows = state[ROWS] if ROWS in state else np.arange(self.facts.n_items)
        hidden = rows[rows_of(_arrays(IN_USE, state), len(rows))]
        return np.asarray(hidden[hidden >= 0], np.int64)

    def _is_shared(self, state: State) -> bool:
        """Whether one of the two models has the same list for everybody."""
        return any(
            isinstance(self._algorithm(which).factors(_arrays(which, state)), Ranked) for which in (CANDIDATE, IN_USE)
        )

    def _algorithm(self, which: str) -> Algorithm:
        """What one of the two models ranks by."""
        judged = self.verdict.candidate if which == CANDIDATE else self.verdict.in_use
        return make_algorithm(judged.algorithm, judged.settings, judged.facts)

    def _scores(self, which: str, state: State, histories: Interactions) -> npt.NDArray[np.float32]:
        """One model's scores of the run's items, [n_users, n_items]; -inf of what it doesn't have."""
        arrays, algorithm = _arrays(which, state), self._algorithm(which)
        if which == CANDIDATE or ROWS not in state:
            return np.array(algorithm.scores(arrays, histories), np.float32)
        rows, scores = state[ROWS], np.full((histories.n_users, histories.n_items), -np.inf, np.float32)
        there, place = np.flatnonzero(rows >= 0), np.full(histories.n_items, -1)
        place[rows[there]] = there
        own = place[histories.indices]
        users, weights = histories.owners()[own >= 0], histories.weights[own >= 0]
        former = Interactions.from_pairs(users, own[own >= 0], weights, n_users=histories.n_users, n_items=len(rows))
        scores[:, rows[there]] = algorithm.scores(arrays, former)[:, there]
        return scores

    def reach(self, block: str) -> Reach:
        """Each block's norm is 1 at most by itself, and nothing is negative."""
        return Reach(unit=True, positive=True)

    def release(self, state: State, round_: int, sums: Mapping[str, Float64], noise: Mapping[str, float]) -> State:
        """The noised sums, `shown` in lists, and their noise's standard deviations; the models are left out."""
        units = {VOTES: 1.0, FOUND: 1.0, SHOWN: self._root}
        deviations = np.array([noise[name] * units[name] for name in BLOCKS])
        return {name: sums[name] * unit for name, unit in units.items()} | {NOISE: deviations}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Zeros: a verdict ranks nothing."""
        return np.zeros((histories.n_users, histories.n_items))


def arrays_of(which: str, state: State) -> State:
    """A model's arrays as public inputs of a verdict."""
    return {f"{which}/{name}": array for name, array in state.items()}


def _arrays(which: str, state: State) -> State:
    """One model's arrays, by their names in it."""
    return {name.removeprefix(f"{which}/"): array for name, array in state.items() if _of(name) == which}


def _gains(lists: Interactions, wanted: Bools, by_rank: Sequence[int]) -> Float64:
    """What each user's list gains by the items that are wanted: sums of whole numbers far below 2^53, exact."""
    owners = lists.owners()
    each = np.array(by_rank, np.float64)[lists.weights.astype(np.int64) - 1]
    return np.bincount(owners, each * wanted[owners, lists.indices], lists.n_users).astype(np.float64)


def _batch_of_counts(counts: npt.NDArray[np.int8]) -> Interactions:
    """Counts as a batch, [n_users, n_items]."""
    users, items = np.nonzero(counts)
    ends = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=len(counts))))).astype(np.int64)
    return Interactions(ends, items.astype(np.int32), counts[users, items].astype(np.float32), counts.shape[1])


def _concatenate(parts: Sequence[Interactions]) -> Interactions:
    """One batch after the other."""
    counts = np.concatenate([part.counts() for part in parts])
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    indices, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "weights"))
    return Interactions(indptr, indices, weights, parts[0].n_items)


def _divide_weights(batch: Interactions, *, by: float) -> OuterBlock:
    """Each user's weights, divided."""
    rows = batch.weights.astype(np.float64) / by
    return OuterBlock(batch.indptr, batch.indices, rows, np.ones((batch.n_users, 1)), batch.n_items)


def _of(name: str) -> str:
    """Which of the two models an array is of; empty: of neither."""
    which, slash, _ = name.partition("/")
    return which if slash and which in (CANDIDATE, IN_USE) else ""
