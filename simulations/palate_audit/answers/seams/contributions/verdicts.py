"""Verdicts: votes of devices on a model and the one in use."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.playing import patched, people, play
from palate_audit.answers.seam import Seam
from palate_common.algorithms import PublicFacts, State, make_algorithm, verdict
from palate_common.algorithms.parts.quarantine import inputs_of
from palate_common.algorithms.verdict import CANDIDATE, IN_USE, Judging, arrays_of


def _model(dice: Dice, n_items: int) -> tuple[dict[str, Any], State]:
    """A model to be judged, and its arrays: scores with ties, and some items in quarantine."""
    name, out = dice.one_of(("popularity", "als", "sgd", "sgd")), State()
    if dice.chance(0.4):
        out = inputs_of(sorted(dice.shuffled(range(n_items))[:2]), n_items, {})
    counts = np.array(dice.wholes(0, 4, n_items), np.float32)
    state: State = {"counts": counts, **out}
    settings: dict[str, Any] = {}
    if name != "popularity":
        head = np.arange(n_items, dtype=np.int32)
        state |= {"head": head, "weight": np.ones(n_items, np.float32)}
    if name == "als":
        settings, state["floor"] = {"rounds": 2, "embedding_size": 2}, np.ones(1, np.float32)
        basis = dice.floats(n_items, 2).astype(np.float32)
        state |= {"basis": basis, "strength": np.ones(2, np.float32), "accuracy": np.ones(2, np.float32)}
    if name == "sgd":
        settings = {"rounds": 2, "embedding_size": 2}
        state |= {"table": dice.floats(n_items, 3).astype(np.float32), "bias": counts / 5}
    facts = PublicFacts(n_users=9, n_items=n_items, mu=dice.one_of((None, 1.0)))
    return {"algorithm": name, "settings": settings, "facts": facts, "model": "0" * 64}, state


def _verdict(dice: Dice, answer: CaseAnswer) -> None:
    """A vote on two models, of one catalogue or of two."""
    n_items = dice.one_of((3, 9, 25))
    former_items = dice.one_of((8, n_items))
    facts = PublicFacts(n_users=20, n_items=n_items, mu=1.0, seed=dice.one_of((0, 5)))
    candidate, arrays = _model(dice, n_items)
    rows = None
    if dice.chance(0.5):
        wanted = dice.shuffled([*range(n_items), *[-1] * former_items])[:former_items]
        rows = np.array([row if row < n_items else -1 for row in wanted], np.int64)
    in_use, former = _model(dice, n_items if rows is None else former_items)
    other = facts.model_copy(update={"n_items": n_items + 1})
    for wrong in ({"algorithm": "verdict"}, {"facts": other}, {"model": "x"}):
        if dice.chance(0.1):
            settings = {"run": "run-1", "candidate": {**candidate, **wrong}, "in_use": in_use}
            answer.tell(type(answer.tried(make_algorithm, "verdict", settings, facts)).__name__)
    pair = {"run": "run-1", "candidate": candidate, "in_use": in_use}
    judging = Judging(Judging.Settings.model_validate(pair), facts)
    inputs: State = {**arrays_of(CANDIDATE, arrays), **arrays_of(IN_USE, former)}
    inputs |= {"other": np.zeros(1), "a/b": np.ones(1)}
    inputs |= {} if rows is None else {verdict.ROWS: rows}
    inputs |= {name: arrays[name] for name in ("quarantined",) if name in arrays}
    histories = people(dice, 5, n_items)
    with ExitStack() as stack:
        patched(stack, verdict, AT_ONCE=dice.one_of((3, 512)), LIST=dice.one_of((2, 3, 20)))
        states = play(dice, answer, judging, inputs, histories, loud=0.5)
        shared = judging.lists(CANDIDATE, states[0], histories, shared=rows is not None)
        answer.brief(shared, judging.lists(IN_USE, states[0], histories))
        answer.tell(judging.scores(states[-1], histories).shape, judging.feature_sources)


SEAMS: tuple[Seam, ...] = (Seam("verdicts: votes on two models", _verdict, 15),)
