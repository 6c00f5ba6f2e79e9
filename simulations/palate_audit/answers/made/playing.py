"""Playing: made-up users, and all rounds of a run of any algorithm that they take part in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_common.algorithms import registry
from palate_common.algorithms.base import Algorithm, Factors, PublicFacts, State
from palate_common.algorithms.parts import quarantine
from palate_common.interactions import Interactions
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, Float64
from palate_core.errors import PalateError

STIR = 0.3
"""Sums without noise are stirred: of what has no rank, each machine finds other directions."""
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
        weights = np.array([0.25, 1.0, 1.5, 30.0])[dice.wholes(0, 3, nnz)]
    owners = np.repeat(np.arange(n_users), sizes)
    return Interactions.from_pairs(owners, items, weights, n_users=n_users, n_items=n_items)


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
    dice: Dice,
    answer: CaseAnswer,
    algorithm: Algorithm,
    inputs: State,
    histories: Interactions,
    *,
    loud: float,
    rough: bool = False,
) -> list[State]:
    """All rounds of a run; its states.

    Args:
        dice: of the noise.
        answer: takes in every step.
        algorithm: what is run.
        inputs: its public inputs.
        histories: of some users; sums are theirs as often as the public facts have so many.
        loud: standard deviation of the noise in a number; 0: none.
        rough: see `CaseAnswer.brief`.
    """
    states = [registry.first_state(algorithm, inputs)]
    told: list[Any] = [algorithm.shares, {**states[0]}]
    often = algorithm.facts.n_users / histories.n_users  # type: ignore[attr-defined]  # all of ours have facts
    for round_ in range(len(algorithm.shares)):
        state = states[-1]
        layout = algorithm.layout(state, round_)
        rows = {} if layout[0].name == "vote" else algorithm.item_rows(state, round_)  # a vote alone is of no items
        heard = quarantine.learned_from(histories, state)
        update = algorithm.contribute(state, round_, heard)
        own, alone = dice.whole(0, 3 * histories.n_users), update
        if own < histories.n_users:
            alone = algorithm.contribute(state, round_, heard.users(slice(own, own + 1)))
        noise = {spec.name: loud * (1 + place) for place, spec in enumerate(layout)}
        sums = {
            spec.name: (
                sum_of(block).reshape(spec.shape) * often
                + (noise[spec.name] or STIR) * dice.floats(*spec.shape, low=-2, high=2)
            )
            for spec, block in zip(layout, update.blocks, strict=True)
        }
        states.append(registry.next_state(algorithm, state, round_, sums, noise, inputs))
        reach = [algorithm.reach(spec.name) for spec in layout]
        told += [[spec.model_dump() for spec in layout], rows, reach, algorithm.steps(round_)]
        answer.brief(told, update, alone, {**states[-1]}, rough=rough)
        told = []
    last, state = len(algorithm.shares) - 1, states[-1]
    fewer: State = {name: state[name][:-1] for name in ("head", "weight", "table", "pair_head") if name in state}
    if fewer:  # another state in the same round: nothing of the former one may be remembered
        layout = algorithm.layout({**state, **fewer}, last)
        answer.tell([spec.shape for spec in layout], algorithm.item_rows({**state, **fewer}, last))
    return states


def tell_scores(
    dice: Dice,
    answer: CaseAnswer,
    algorithm: Algorithm,
    states: Sequence[State],
    *,
    ratings: bool = False,
    rough: bool = False,
) -> None:
    """What a device makes of a run's states: one of them, and the last one."""
    facts: PublicFacts = algorithm.facts  # type: ignore[attr-defined]  # all of ours have facts
    asked = people(dice, 3, facts.n_items, ratings=ratings)
    told, last = list[Any](), states[-1]
    for state in (dice.one_of(states), last):
        factors, one = algorithm.factors(state), asked.user(dice.whole(0, 2))
        told.append(algorithm.scores(state, asked if state is last else one))
        told += [] if factors is None else [_factors(factors, one)]
        told += [algorithm.expected_ratings(state, asked)] if state is not states[0] else []
    if facts.n_features:
        new = dice.floats(3, facts.n_features + dice.one_of((0, 0, 0, 1)))
        answer.of(algorithm.new_item_scores, last, asked, new)
        told.append(algorithm.new_item_scores(last, asked, new[:, : facts.n_features]))
    rows = np.array(dice.shuffled(range(facts.n_items + 2))[: facts.n_items], np.int64)
    found = answer.tried(algorithm.hand_over, last, rows, facts.n_items + 2)
    answer.brief(told, [] if isinstance(found, PalateError) else found, rough=rough)


def _factors(factors: Factors, histories: Interactions) -> list[Any]:
    """Everything that factors say."""
    links = {name: [each.state(name), factors.amounts(name, histories)] for name, each in factors.links.items()}
    parts = [(name, part.start, part.stop) for name, part in factors.parts.items()]
    return [parts, factors.trust, factors.items(), factors.users(histories), factors.events(histories), links]


def in_quarantine(dice: Dice, algorithm: Algorithm, n_items: int) -> State:
    """Which items are in quarantine; none, in most cases."""
    if dice.chance(0.6):
        return {}
    rows = sorted(dice.shuffled(range(n_items))[: dice.whole(1, 2)])
    last = {name: dice.floats(n_items).astype(np.float32) for name in algorithm.item_arrays}
    places = dice.one_of((None, rows[::-1], [-1] * len(rows)))
    return quarantine.inputs_of(rows, n_items, dice.one_of(({}, last)), places)


def patched(stack: ExitStack, module: Any, **changes: Any) -> None:
    """Other constants, until the stack is closed."""
    for name, value in changes.items():
        stack.enter_context(mock.patch.object(module, name, value))
