"""ALS: runs with all that they can have, their plans by public facts, and their votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.playing import ITEMS, in_quarantine, patched, people, play, tell_scores
from palate_audit.answers.seam import Seam
from palate_common.algorithms import registry
from palate_common.algorithms.als import algorithm as als
from palate_common.algorithms.als import pairs, vote, warm
from palate_common.algorithms.base import PublicFacts, State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import panel_inputs
from palate_core.errors import PalateError


def former(dice: Dice, n_items: int, *, table: bool) -> State:
    """Arrays of a former release."""
    known = np.array([float(dice.chance(0.8)) for _ in range(n_items)], np.float32)
    counts = (dice.floats(n_items, low=-1, high=30) * known).astype(np.float32)
    found: State = {
        "former_counts": counts,
        "former_known": known,
        "former_noise": np.array([dice.real(0.1, dice.one_of((3, 90))), dice.real(0.1, 3)], np.float32),
        "former_users": np.array([dice.whole(5, 900)], np.float64),
        "former_signal": np.array([dice.real(1, 5000)], np.float64),
    }
    if table:
        size = dice.whole(n_items - 1, n_items)
        found["former_head"] = np.sort(np.array(dice.shuffled(range(n_items))[:size], np.int32))
        found["former_products"] = dice.floats(size, dice.whole(1, 5), low=-9, high=9).astype(np.float32)
    return found


def panel(dice: Dice, n_items: int) -> State:
    """An open panel's links."""
    links = Links.strongest(np.arange(n_items), dice.floats(n_items, n_items), most=dice.one_of((1, 3, n_items)))
    return panel_inputs(links, users=dice.one_of((1, 40, 900)))


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


def _als(dice: Dice, answer: CaseAnswer) -> None:
    """A run of `als` with some of all that it can have."""
    n_items, features = dice.one_of(ITEMS), dice.one_of((0, 0, 2, 3))
    settings = _als_settings(dice)
    if dice.chance(0.7):
        settings["rounds"] = dice.whole(2, 4)
    # Of directions that nothing tells apart, such as the last ones of a small head, each machine finds others.
    settings |= {"embedding_size": dice.whole(1, 3), "head_items": dice.one_of((6, 9, 50, 50))}
    if dice.chance(0.3):
        settings["pair_items"] = dice.one_of((2, 5))
    if features == 3 and dice.chance(0.6):
        settings["feature_sources"] = dice.one_of(({"b": 1, "a": 2}, {"only": 3}))
    inputs: State = {}
    if features:
        inputs["features"] = dice.floats(n_items, features) * dice.one_of((1, 1, 1e-4))
        inputs["features"][:, -1] += dice.one_of((0.0, 0.0, 3.0))
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
        former_signal=warm.signal_of(inputs or None),
    )
    with ExitStack() as stack:
        patched(stack, als, LEAST_HEAD=dice.one_of((4, 50)), MOST_LINKS=dice.one_of((2, 128)))
        patched(stack, als, LEAST_ALONG=dice.one_of((0.08, 0.0, 0.2)), PAIRS_WEIGHT=dice.one_of((0.5, 0.5, 1.0)))
        patched(stack, als, OPTIMISM=dice.one_of((0.02, 1.0)))
        patched(stack, pairs, PROBES=dice.one_of((4, 8)), PROBED_AT_ONCE=4)
        patched(stack, vote, LIST=dice.one_of((2, 2, 20)), FIRST_RANKED=dice.one_of((3, 1024)), MORE_RANKED=2)
        patched(stack, vote, SCORES_AT_ONCE=dice.one_of((9, 2**17)))
        made = answer.tried(registry.make_algorithm, "als", settings, facts)
        if isinstance(made, PalateError):
            return
        if isinstance(made, als.Als) and made.plan.later and "compression" not in settings:
            inputs |= in_quarantine(dice, made, n_items)
        states = play(dice, answer, made, inputs, people(dice, 7, n_items), loud=loud if mu else 0.0)
        if "pair_head" in states[-1]:  # pairs of other items than the plan has are refused
            wrong = {**states[1], "pair_head": states[1]["pair_head"][:-1]}
            answer.tell(isinstance(answer.tried(made.contribute, wrong, 1, people(dice, 1, n_items)), PalateError))
        tell_scores(dice, answer, made, states)


def _plan(dice: Dice, answer: CaseAnswer) -> None:
    """What `als` plans by public facts: at the signals where something else begins, and beside them."""
    edge = dice.one_of((100, 350, 350, 20_000, 25_000, 400_000))
    plain = dice.chance(0.5)
    mu = 1.0 if plain else dice.one_of((None, 1.0, 1.0, 0.5))
    features, users = (
        dice.one_of((0, 0, 1, 4)),
        max(1, int(edge / (mu or 1.0)) + dice.one_of((-1, 0, 0, 1) if plain else (-40, 2000))),
    )
    settings = {} if plain else _als_settings(dice)
    if features:
        whole = {"b": features - 1, "a": 1} if features > 1 else {"a": 1}
        widths: Sequence[dict[str, int]] = (
            whole,
            whole,
            {"c": features},
            {"a": 3},
            {"a": 4, "b": 0},
            {"a": 5, "b": -1},
            {},
        )
        settings["feature_sources"] = dice.one_of((None, *widths))
    facts = PublicFacts(
        n_users=users,
        n_items=dice.one_of((1, 2, 49, 50, 51, 900, 40_000)),
        mu=mu,
        n_features=features,
        panel_users=dice.one_of((0, 0, 1, 50, 9000)),
        local=not plain and dice.chance(0.3),
        former_signal=0.0 if plain else dice.one_of((0.0, 200.0, 30_000.0)),
    )
    told: list[Any] = []
    for each in (facts, facts.model_copy(update={"n_features": 0}), facts):
        made = answer.tried(registry.make_algorithm, "als", settings, each)
        if isinstance(made, als.Als):
            had = {name: value for name, value in vars(made.plan).items() if name != "sources"}
            answer.tell(made.feature_sources, [(part.start, part.stop) for part in made.plan.sources.values()])
            told += [had, made.layout(made.start(), 0)[0].model_dump()]
            answer.tell(made._one_votes_in(), made.sketch)
    answer.brief(told)


def _vote(dice: Dice, answer: CaseAnswer) -> None:
    """Ballots of some users, and what is elected by them."""
    n_items, width = dice.one_of((9, 60, 60)), dice.whole(0, 3)
    base = dice.floats(n_items, low=0.0) ** dice.one_of((1, 1, 4))
    head = np.sort(np.array(dice.shuffled(range(n_items))[: dice.whole(0, n_items)], np.int32))
    content, loud = dice.floats(n_items, dice.whole(0, 2)), dice.one_of((0.0, 0.3, 2.0))
    tables = vote.VoteTables.of(base, head, loud * dice.floats(len(head), width), content)
    histories, seed = people(dice, 8, n_items), dice.one_of((0, 0, 3))
    kept = vote.voters(histories, dice.one_of((1, 1, 2, 3)), seed)
    shown, hidden = vote.hide(histories.users(kept), seed)
    answer.tell(kept, shown, hidden, tables.place)
    links = Links.strongest(np.arange(0, n_items, 2), dice.floats(*[(n_items + 1) // 2] * 2), most=3)
    parts: dict[str, vote.ScorePart] = {
        "content": vote.ContentPart(tables, dice.floats(len(kept), content.shape[1])),
        "collaborative:pairs": vote.LinkPart(tables, links, shown, lambda some: some.weights * np.float64(0.5)),
    }
    elections = dice.some_of(list(parts), 0.7)
    weights = {name: dice.one_of((0.0, 0.5, 2.0)) for name in parts}
    level, taste = dice.floats(len(kept), low=-0.3), dice.floats(len(kept), width)
    with ExitStack() as stack:
        patched(stack, vote, LIST=dice.one_of((1, 2, 20)), FIRST_RANKED=dice.one_of((3, 8, 1024)), MORE_RANKED=2)
        patched(stack, vote, SCORES_AT_ONCE=dice.one_of((1, 17, 2**17)), LEAST=dice.one_of((2.0**-200, 0.3)))
        cast = vote.ballots(tables, level, taste, parts, weights, elections, shown, hidden)
    answer.brief(cast, tables.most)
    choices = dice.one_of(list(vote.CHOICES.values()))
    total = dice.floats(len(choices) - 1, low=-5, high=9)
    voted, noise, expected = dice.real(1, 60), dice.one_of((0.0, 2.0)), dice.one_of((0.0, 0.25, 0.5, 1.0, 2.0))
    for optimism in (0.0, dice.real(0.0, 0.2)):
        named = {"noise": noise, "voted": voted, "expected": expected, "optimism": optimism}
        answer.tell(int(100 * vote.elected(total, choices, **named)))
    users, loud = dice.one_of((5, 900, 901, 50_000)), dice.one_of((0.0, 3.0, 60.0))
    answer.tell(vote.thinning(users, loud))


SEAMS: tuple[Seam, ...] = (
    Seam("als: runs of every kind", _als, 19),
    Seam("als: plans by public facts", _plan, 90),
    Seam("als: votes", _vote, 25),
)
