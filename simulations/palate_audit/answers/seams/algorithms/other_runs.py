"""Other runs: SGD with each loss and step, noised steps on single events, and plain counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.playing import ITEMS, STIR, in_quarantine, patched, people, play, sum_of, tell_scores
from palate_audit.answers.seam import Seam
from palate_common.algorithms import popularity, registry
from palate_common.algorithms.als import algorithm as als
from palate_common.algorithms.base import EventAlgorithm, PublicFacts, State
from palate_common.algorithms.sgd import algorithm as sgd
from palate_common.algorithms.sgd import losses
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Update

SGD: Mapping[str, Sequence[Any]] = {
    "rounds": (2, 3, 4),
    "embedding_size": (1, 2, 5),
    "head_items": (3, 7, 50),
    "first_share": (0.1, 0.5),
    "clip_norm": (0.1, 2.0),
    "clip_quantile": (0.3, 0.8),
    "user_exponent": (0.0, 0.25, 0.5),
    "optimizer": ("newton", "momentum", "adam"),
    "server_rate": (0.1, 2.0),
    "momentum": (0.0, 0.7),
    "moments_share": (0.2, 0.5),
    "residual_variance": (0.1, 1.0),
    "item_ridge": (0.0, 2.0),
    "use_features": (True, False),
    "feature_scale": (0.1, 1.0),
    "start_scale": (0.1, 0.5),
    "unobserved_weight": (0.1, 1.0),
    "negatives": (1, 3),
    "regularization": (0.0, 2.0),
    "bias_regularization": (0.0, 1.0),
    "lowest": (0.0, 2.0, 3.0, 5.0),
    "highest": (3.0, 5.0, 10.0),
    "popularity_weight": (0.0, 0.3),
    "compression": (1.3, 2.0),
}
"""Settings of `sgd`."""


def _some(dice: Dice, options: Mapping[str, Sequence[Any]], share: float) -> dict[str, Any]:
    """Some of the settings; the others are left out."""
    return {name: dice.one_of(values) for name, values in options.items() if dice.chance(share)}


def _sgd(dice: Dice, answer: CaseAnswer) -> None:
    """A run of `sgd`."""
    loss = dice.one_of(("implicit", "logistic", "ratings"))
    n_items, features, mu = dice.one_of(ITEMS), dice.one_of((0, 2)), dice.one_of((None, 0.5, 5.0))
    settings = {"loss": loss, "rounds": dice.one_of((2, 3, 4)), **_some(dice, SGD, 0.2)}
    settings.setdefault("embedding_size", 3)
    if mu is None:  # no number of steps is enough without noise: what is left of them is rounding
        settings.pop("compression", None)
    inputs: State = {"features": dice.floats(n_items, features)} if features else {}
    facts = PublicFacts(
        n_users=dice.one_of((6, 800)), n_items=n_items, mu=mu, n_features=features, seed=dice.one_of((0, 0, 2**40))
    )
    made = answer.tried(registry.make_algorithm, "sgd", settings, facts)
    if not isinstance(made, sgd.Sgd):
        return
    ratings, inputs = loss == "ratings", inputs | in_quarantine(dice, made, n_items)
    with ExitStack() as stack:
        patched(stack, losses, DENSE_AT_ONCE=dice.one_of((1, 30, 2**19)))
        loud = dice.one_of((0.2, 1.5, 40.0)) if mu else 0.0
        states = play(dice, answer, made, inputs, people(dice, 6, n_items, ratings=ratings), loud=loud)
        tell_scores(dice, answer, made, states, ratings=ratings)


def _sgd_plan(dice: Dice, answer: CaseAnswer) -> None:
    """What `sgd` plans by its settings and public facts."""
    mu = dice.one_of((None, 1.0, 0.3))
    facts = PublicFacts(
        n_users=dice.one_of((1, 50, 213, 214, 700, 30_000)), n_items=dice.one_of((1, 49, 50, 51, 3000)), mu=mu,
        local=dice.chance(0.2),
    )  # fmt: skip
    loss = {"loss": dice.one_of(("implicit", "logistic", "ratings"))}
    packed = {**loss, "compression": dice.one_of((1.5, 4.0))}
    for settings in (loss, packed, {**loss, **_some(dice, SGD, 0.25)}):
        made = answer.tried(registry.make_algorithm, "sgd", settings, facts)
        if isinstance(made, sgd.Sgd):
            told = [made.shares, made.filled, made.loss, made.clip, made.optimizer, made.later, made.head_items]
            layouts = [made.layout({"head": np.arange(made.head_items)}, round_) for round_ in (0, 1)]
            told += [made.size, made.sketch, made.exponent, made.scale, made.server_rate]
            answer.brief(told, [spec.model_dump() for layout in layouts for spec in layout])


def _events(dice: Dice, answer: CaseAnswer) -> None:
    """A run whose unit is one event: steps on devices, and the table that follows."""
    n_items, features = dice.one_of(ITEMS), dice.one_of((0, 0, 2))
    options: Mapping[str, Sequence[Any]] = {
        "inclusion": (0.25, 0.5, 1.0),
        "user_steps": (1, 3),
        "user_rate": (0.3, 40.0),
        "events_per_user": (1.0, 4.0, 40.0),
        "compression": (1.5,),
        "rounds": (1, 2, 4, None),
        "vote_share": (0.0, 0.1),
        "pair_items": (0, 1),
    }
    facts = PublicFacts(
        n_users=dice.one_of((7, 900)), n_items=n_items, mu=dice.one_of((0.5, 4.0, None)), n_features=features,
        local=True, former_signal=dice.one_of((0.0, 99_999.0)),
    )  # fmt: skip
    settings = _some(dice, options, 0.4)
    settings |= {"embedding_size": dice.whole(1, 3), "head_items": dice.one_of((6, 9, 50))}
    made = answer.tried(registry.make_algorithm, "event-mf", settings, facts)
    if not isinstance(made, EventAlgorithm):
        return
    inputs: State = {"features": dice.floats(n_items, features)} if features else {}
    inputs |= {} if "compression" in settings else in_quarantine(dice, made, n_items)
    histories, states = people(dice, 7, n_items), [registry.first_state(made, inputs)]
    told: list[Any] = [made.shares, made.inclusion]
    answer.of(made.contribute, states[0], 0, histories)
    for round_ in range(len(made.shares)):
        state = states[-1]
        layout, users = made.layout(state, round_), made.user_start(state, histories.n_users)
        told.append(users)
        (spec,) = layout
        for _ in range(made.steps(round_) - 1):
            slopes = made.user_gradients(state, users, histories)
            noised = dice.floats(*users.shape, low=-9, high=9)
            noised[histories.owners()] += slopes
            users = made.user_step(users, noised)
            told += [slopes, users]
        users[dice.whole(0, 6)] = 0.0
        update = made.item_gradients(state, round_, users, histories)
        loud = dice.one_of((0.2, 2.0)) if facts.mu else 0.0
        often = facts.n_users / 7
        total = sum_of(update.blocks[0]).reshape(spec.shape) * often + (loud or STIR) * dice.floats(
            *spec.shape, low=-2, high=2
        )
        states.append(registry.next_state(made, state, round_, {spec.name: total}, {spec.name: loud}, inputs))
        told += [update, {**states[-1]}, made.steps(round_), spec.model_dump(), made.reach(spec.name)]
        answer.brief(told)
        told = []
    tell_scores(dice, answer, made, states)


class _Counts(popularity.Popularity):
    """Contributes what nobody knows: nothing is promised of it."""

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """The same, as it happens."""
        return super().contribute(state, round_, histories)


class _Factors(als.Als):
    """As `_Counts`."""

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """The same, as it happens."""
        return super().contribute(state, round_, histories)


class _Descent(sgd.Sgd):
    """As `_Counts`."""

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """The same, as it happens."""
        return super().contribute(state, round_, histories)


OTHERS: tuple[type[Any], ...] = (_Counts, _Factors, _Descent, sgd.Sgd, als.Als, popularity.Popularity)
"""Algorithms, and such as derive from them."""


def _counts(dice: Dice, answer: CaseAnswer) -> None:
    """A run of counts alone."""
    n_items = dice.one_of((1, 2, *ITEMS))
    facts = PublicFacts(n_users=dice.one_of((5, 70)), n_items=n_items, mu=dice.one_of((None, 1.0)))
    made = registry.make_algorithm("popularity", {}, facts)
    inputs = in_quarantine(dice, made, n_items) if n_items > 3 else {}
    histories = people(dice, dice.one_of((1, 5, 60)), n_items)
    tell_scores(dice, answer, made, play(dice, answer, made, inputs, histories, loud=1.0 if facts.mu else 0.0))
    answer.tell(made.reach("other"), made.feature_sources, made.leaves_items_out(), made.hands_over())
    other = dice.one_of(OTHERS)
    theirs = other(other.Settings(), facts.model_copy(update={"n_items": 9}))
    names = ("counts", "pairs", "trace", "change", "products")
    answer.tell([theirs.reach(name) for name in names], theirs.leaves_items_out(), theirs.hands_over())
    answer.of(made.hand_over, {}, np.arange(1), 1)


SEAMS: tuple[Seam, ...] = (
    Seam("sgd: runs of every loss and step", _sgd, 24),
    Seam("sgd: plans by public facts", _sgd_plan, 60),
    Seam("event-mf: steps on events and the table", _events, 18),
    Seam("popularity: counts", _counts, 18),
)
