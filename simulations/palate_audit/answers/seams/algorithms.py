"""Algorithms: what each of them makes of a release: models, plans of the next round, layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import Answer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.algorithms import base, registry
from palate_common.algorithms.als import algorithm as als
from palate_common.algorithms.als import pairs, plan, vote, warm
from palate_common.algorithms.base import Algorithm, EventAlgorithm, Factors, PublicFacts, State
from palate_common.algorithms.parts import quarantine
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import panel_inputs
from palate_common.errors import PalateError
from palate_common.interactions import Interactions
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, Float64, OuterBlock

ITEMS = (11, 11, 60)
"""Sizes of catalogues: often the same, so that what is remembered of one is of the wrong one."""


def people(dice: Dice, n_users: int, n_items: int, *, ratings: bool = False) -> Interactions:
    """Histories: empty ones, one item, many; the first items are the most popular."""
    sizes = np.array([dice.one_of((0, 1, 2, 3, 5, 9, n_items)) for _ in range(n_users)])
    nnz = int(sizes.sum())
    items = (n_items * dice.floats(nnz, low=0.0) ** 2).astype(np.int64)
    weights = np.ones(nnz)
    if ratings:
        weights = np.array([0.5, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0, 7.0])[dice.wholes(0, 7, nnz)]
    elif dice.chance(0.4):
        weights = np.array([0.25, 1.0, 1.5, 3.0])[dice.wholes(0, 3, nnz)]
    return Interactions.from_pairs(np.repeat(np.arange(n_users), sizes), items, weights, n_users=n_users, n_items=n_items)


def sum_of(block: Block) -> Float64:
    """The sum over users of what a block says, unclipped."""
    if isinstance(block, DenseBlock):
        return np.asarray(block.values.sum(axis=0), np.float64)
    table = np.zeros((len(block.indptr) - 1, block.n_rows))
    table[np.repeat(np.arange(len(table)), np.diff(block.indptr)), block.indices] = block.rows
    if isinstance(block, PairBlock):
        whole: Float64 = (table.T @ table)[np.triu_indices(block.n_rows, 1)]
        return whole
    if block.along is not None and block.shift is not None:
        table -= np.outer(block.shift, block.along)
    return np.asarray(table.T @ block.columns, np.float64)


def play(
    dice: Dice, answer: Answer, algorithm: Algorithm, inputs: State, histories: Interactions, *, loud: float
) -> list[State]:
    """All rounds of a run; its states.

    Args:
        dice: of the noise.
        answer: takes in every step.
        algorithm: what is run.
        inputs: its public inputs.
        histories: of some users; sums are theirs as often as the public facts have so many.
        loud: standard deviation of the noise in a number; 0: none.
    """
    answer.brief(algorithm.shares)
    states = [registry.first_state(algorithm, inputs)]
    often = algorithm.facts.n_users / histories.n_users  # type: ignore[attr-defined]  # all of ours have facts
    for round_ in range(len(algorithm.shares)):
        state = states[-1]
        layout = algorithm.layout(state, round_)
        rows = {} if "vote" == layout[0].name else algorithm.item_rows(state, round_)  # a vote alone is of no items
        heard = quarantine.learned_from(histories, state)
        update = algorithm.contribute(state, round_, heard)
        own = dice.whole(0, histories.n_users - 1)
        alone = algorithm.contribute(state, round_, heard.users(slice(own, own + 1)))
        noise = {spec.name: loud * (1 + place) for place, spec in enumerate(layout)}
        sums = {
            spec.name: (
                sum_of(block).reshape(spec.shape) * often + noise[spec.name] * dice.floats(*spec.shape, low=-2, high=2)
            )
            for spec, block in zip(layout, update.blocks, strict=True)
        }
        states.append(registry.next_state(algorithm, state, round_, sums, noise, inputs))
        reach = [algorithm.reach(spec.name) for spec in layout]
        answer.brief([spec.model_dump() for spec in layout], rows, reach, algorithm.steps(round_))
        answer.brief(update, alone, {**states[-1]})
    return states


def ask(dice: Dice, answer: Answer, algorithm: Algorithm, states: Sequence[State], ratings: bool = False) -> None:
    """What a device makes of a run's states: the last one, an earlier one, and the last one again."""
    facts: PublicFacts = algorithm.facts  # type: ignore[attr-defined]  # all of ours have facts
    asked = people(dice, 4, facts.n_items, ratings=ratings)
    for state in (states[-1], dice.one_of(states), states[-1]):
        factors = algorithm.factors(state)
        told = [algorithm.scores(state, asked.user(dice.whole(0, 3))), algorithm.expected_ratings(state, asked)]
        answer.brief(told, [] if factors is None else _factors(factors, asked.user(dice.whole(0, 3))))
    last, factors = states[-1], algorithm.factors(states[-1])
    answer.brief(algorithm.scores(last, asked), [] if factors is None else _factors(factors, asked))
    if facts.n_features:
        new = dice.floats(3, facts.n_features + dice.one_of((0, 0, 0, 1)))
        answer.of(algorithm.new_item_scores, last, asked, new)
        answer.brief(algorithm.new_item_scores(last, asked, new[:, : facts.n_features]))
    rows = np.array(dice.shuffled(range(facts.n_items + 2))[: facts.n_items], np.int64)
    found = answer.tried(algorithm.hand_over, last, rows, facts.n_items + 2)
    if not isinstance(found, PalateError):
        answer.brief(found)


def _factors(factors: Factors, histories: Interactions) -> list[Any]:
    """Everything that factors say."""
    links = {name: [each.state(name), factors.amounts(name, histories)] for name, each in factors.links.items()}
    parts = [(name, part.start, part.stop) for name, part in factors.parts.items()]
    events = [factors.events(histories.user(row)) for row in range(histories.n_users)]
    return [parts, factors.trust, factors.items(), factors.users(histories), events, links]


def former(dice: Dice, n_items: int, *, table: bool) -> State:
    """Arrays of a former release."""
    known = np.array([float(dice.chance(0.8)) for _ in range(n_items)], np.float32)
    counts = (dice.floats(n_items, low=-1, high=30) * known).astype(np.float32)
    found: State = {
        "former_counts": counts,
        "former_known": known,
        "former_noise": np.array([dice.real(0.1, 3), dice.real(0.1, 3)], np.float32),
        "former_users": np.array([dice.whole(5, 900)], np.float64),
        "former_signal": np.array([dice.real(1, 5000)], np.float64),
    }
    if table:
        size = dice.whole(2, n_items - 1)
        found["former_head"] = np.sort(np.array(dice.shuffled(range(n_items))[:size], np.int32))
        found["former_products"] = dice.floats(size, dice.whole(1, 5), low=-9, high=9).astype(np.float32)
    return found


def panel(dice: Dice, n_items: int) -> State:
    """An open panel's links."""
    links = Links.strongest(np.arange(n_items), dice.floats(n_items, n_items), most=dice.one_of((1, 3, n_items)))
    return panel_inputs(links, users=dice.one_of((1, 40, 900)))


def out(dice: Dice, algorithm: Algorithm, n_items: int) -> State:
    """Which items are in quarantine; none, in most cases."""
    if dice.chance(0.6):
        return {}
    rows = sorted(dice.shuffled(range(n_items))[: dice.whole(1, 3)])
    last = {name: dice.floats(n_items).astype(np.float32) for name in algorithm.item_arrays}
    return quarantine.inputs_of(rows, n_items, dice.one_of(({}, last)), dice.one_of((None, rows[::-1], [-1] * len(rows))))


def _patched(stack: ExitStack, module: Any, **changes: Any) -> None:
    """Other constants, until the stack is closed."""
    for name, value in changes.items():
        stack.enter_context(mock.patch.object(module, name, value))


def _als_settings(dice: Dice) -> dict[str, Any]:
    """Some settings of `als`; most are left out."""
    options: Mapping[str, Sequence[Any]] = {
        "rounds": (1, 2, 3, 4),
        "embedding_size": (1, 2, 3, 7),
        "head_items": (3, 6, 9, 50),
        "popularity_share": (0.1, 0.5),
        "popularity_only_below": (0.0, 900.0),
        "content_weight": (0.0, 0.3, 2.0),
        "vote_share": (0.0, 0.02, 0.3),
        "pair_items": (0, 1, 2, 5),
        "contribution_exponent": (0.0, 0.4, -1.0),
        "fold_exponent": (0.0, 0.3, -0.6),
        "score_exponent": (0.0, 0.5, -0.2),
        "whitening": (0.0, -0.7),
        "former_discount": (0.1, 1.0),
        "compression": (1.5, 2.0),
    }
    return {name: dice.one_of(values) for name, values in options.items() if dice.chance(0.3)}


def _als(dice: Dice, answer: Answer) -> None:
    """A run of `als` with some of all that it can have."""
    n_items, features = dice.one_of(ITEMS), dice.one_of((0, 0, 2, 3))
    settings = _als_settings(dice)
    if dice.chance(0.7):
        settings["rounds"] = dice.whole(2, 4)
    if features == 3 and dice.chance(0.6):
        settings["feature_sources"] = dice.one_of(({"b": 1, "a": 2}, {"only": 3}))
    inputs: State = {}
    if features:
        inputs["features"] = dice.floats(n_items, features)
    mu, loud = dice.one_of((None, 0.3, 1.0, 9.0)), dice.one_of((0.3, 3.0))
    if mu and dice.chance(0.4):
        inputs |= former(dice, n_items, table=dice.chance(0.7))
    if dice.chance(0.3):
        inputs |= panel(dice, n_items)
    facts = PublicFacts(
        n_users=dice.one_of((7, 300, 9000)),
        n_items=n_items,
        mu=mu,
        n_features=features,
        panel_users=int(inputs["panel_users"][0]) if "panel_users" in inputs else 0,
        seed=dice.one_of((0, 0, 5)),
        local=dice.chance(0.2),
        former_signal=warm_signal(inputs),
    )
    with ExitStack() as stack:
        _patched(stack, als, LEAST_HEAD=dice.one_of((4, 50)), MOST_LINKS=dice.one_of((2, 128)))
        _patched(stack, als, LEAST_ALONG=dice.one_of((0.08, 0.0)), PAIRS_WEIGHT=dice.one_of((0.5, 0.5, 1.0)))
        _patched(stack, pairs, PROBES=dice.one_of((16, 32, 32)), PROBED_AT_ONCE=dice.one_of((8, 16)))
        _patched(stack, vote, LIST=dice.one_of((2, 2, 20)), FIRST_RANKED=dice.one_of((3, 1024)), MORE_RANKED=2)
        _patched(stack, vote, SCORES_AT_ONCE=dice.one_of((9, 2**17)))
        made = answer.tried(registry.make_algorithm, "als", settings, facts)
        if isinstance(made, PalateError):
            return
        inputs |= out(dice, made, n_items) if isinstance(made, als.Als) and made.plan.later else {}
        states = play(dice, answer, made, inputs, people(dice, 7, n_items), loud=loud if mu else 0.0)
        ask(dice, answer, made, states)


def warm_signal(inputs: State) -> float:
    """What public facts say of a warm start."""
    return warm.signal_of(inputs)


SEAMS: tuple[Seam, ...] = (Seam("als: runs of every kind", _als, 48),)
