"""Terms: what a run's terms must be and follow from, and what each of its attempts may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.accounting.accounts import coarse_steps
from palate_common.accounting.sampled import attempt_mu2
from palate_common.algorithms import PublicFacts
from palate_core import accounting
from palate_core import cohort_terms as cohort
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.log.canonical import digest
from palate_core.log.entries import ChargeEntry
from palate_core.plan import Noise, Sampling
from palate_core.privacy_mode import DpMode
from palate_server.rounds import budget
from palate_server.rounds.budget import BudgetSchedule
from palate_server.rounds.registry import pack_inputs
from palate_server.rounds.terms import RunTerms, make_terms, noise_delta


@contextmanager
def _most_attempts(most: int) -> Iterator[None]:
    """Fewer attempts that delta is reserved for."""
    with mock.patch.object(budget, "MAX_ATTEMPTS", most):
        yield


def _terms(dice: Dice, **changes: Any) -> dict[str, Any]:
    """A run's terms, of any mode."""
    dp = dice.one_of(("central", "distributed", "local", "off"))
    events = dice.one_of((None, 1.0, 0.5)) if dp == "local" else None
    mu, epsilon, delta = dice.one_of(((0.125, 1.0, 1e-5), (0.5, 3.0, 2.0**-20), (2.0, 30.0, 1e-6), (8.0, 80.0, 1e-3)))
    private = dp != "off"
    many = CohortTerms(n_max=90, n_min=80, c_max=dice.whole(1, 20), masks=False)
    return {
        "population": "readers",
        "run": "run-1",
        "algorithm": "popularity",
        "settings": {},
        "facts": PublicFacts(n_users=90, n_items=9, mu=mu if private else None, local=dp == "local"),
        "catalogue": "ab" * 32,
        "dp": dp,
        "epsilon": epsilon if private else None,
        "delta": delta,
        "grid": dice.one_of((2**8, 2**14, 2**20, 2**26)),
        "cohort": many if dp == "distributed" else None,
        "events": events,
        **changes,
    }


def _schedules(dice: Dice, answer: CaseAnswer) -> None:
    """A run's budget: the price of each attempt, with void ones between, until nothing is left."""
    parts = [dice.whole(1, 8) for _ in range(dice.whole(1, 4))]
    shares = [part / sum(parts) for part in parts]
    if dice.chance(0.2):
        shares = dice.one_of(([1 + 2e-9], [0.5, 0.5 + 5e-10], [-0.5, 1.5], [0.0, 1.0], [1 / 3] * 3, [0.5]))
    facts = _terms(dice)
    terms = RunTerms.model_validate(facts)
    charges, spent = list[ChargeEntry](), [0.0]
    steps = dice.whole(1, 3)
    with coarse_steps(60), _most_attempts(dice.one_of((3, 4, 99))):
        plan = answer.tried(BudgetSchedule, terms, shares, lambda: spent[0], lambda round_: steps + round_)
        if isinstance(plan, PalateError):
            return
        answer.exact(plan.budget)
        round_ = 0
        for _ in range(2 if terms.events == 0.5 else 7):
            if round_ == len(shares):
                break
            answer.tell(plan.affords(round_), plan.sampling(round_))
            found = answer.tried(plan.price, round_, charges)
            if isinstance(found, PalateError) or not terms.mode.private:
                break
            sigma, mu2, attempt = found
            if terms.events == 0.5:
                answer.tell(sigma, attempt, mu2)
            else:
                answer.exact(sigma, mu2, attempt)
            run = dice.one_of(("run-1", "run-1", "run-2"))
            charges.append(_charge(run, round_, attempt, mu2))
            spent[0] += dice.one_of((mu2, mu2, mu2, 0.7 * plan.budget * shares[round_], 0.0))
            round_ += dice.one_of((0, 1, 1))
        spent[0] = plan.budget - dice.one_of((0.05, 0.0499, 0.0501, -1.0)) * plan.budget * shares[-1]
        answer.tell([plan.affords(n) for n in range(len(shares))])


def _charge(run: str, round_: int, attempt: int, mu2: float) -> ChargeEntry:
    """A ledger's entry of one attempt."""
    return ChargeEntry(
        seq=3, run=run, round=round_, attempt=attempt, plan_hash="ab" * 32, mu2=mu2, run_limit=None, facts={}
    )


def _checked_terms(dice: Dice, answer: CaseAnswer) -> None:
    """A run's terms: what they must be, and what follows from what a caller says."""
    told = _terms(dice)
    answer.of(RunTerms, **told)
    wrong: dict[str, Any] = {
        "population": "",
        "run": "",
        "dp": dice.one_of(("off", "central", "local", "distributed", "none")),
        "epsilon": dice.one_of((None, 0.0, 0.01, math.inf, 1.0)),
        "delta": dice.one_of((0.0, 1.0, cohort.RESERVED_DELTA, math.nextafter(cohort.RESERVED_DELTA, 1.0), 0.5)),
        "clip_norm": dice.one_of((1e-7, 1e-6, 1e6, 1.1e6)),
        "grid": dice.one_of((2**8 - 1, 2**26, 2**26 + 1)),
        "cohort_floor": dice.one_of((0, 1, 7)),
        "cohort": dice.one_of((None, CohortTerms(n_max=3, n_min=2, c_max=1, masks=False))),
        "per_node": dice.one_of((0, 1, 2**26, 2**26 + 1)),
        "events": dice.one_of((None, 0.0009, 0.001, 1.0, 1.01)),
        "plan_seconds": dice.one_of((0, 1)),
        "noise": dice.one_of(("seeded", "secure", "none")),
        "inputs": dice.one_of((None, "ef" * 32)),
        "about": {"a": 1},
        "other": 1,
        "facts": PublicFacts(n_users=1, n_items=1, mu=dice.one_of((None, 0.125, 90.0)), local=dice.chance(0.5)),
    }
    for delta in (cohort.RESERVED_DELTA, math.nextafter(cohort.RESERVED_DELTA, 1.0)):
        answer.of(RunTerms, **(told | {"delta": delta}))
    close, spare = cohort.RESERVED_DELTA * 1.25, dice.one_of((0.25, 1.25))
    allowed = round(accounting.epsilon_of(mu=0.5, delta=cohort.RESERVED_DELTA * spare), 2)
    if told["epsilon"]:
        facts = told["facts"].model_copy(update={"mu": 0.5})
        answer.of(
            RunTerms, **(told | {"facts": facts, "delta": close, "epsilon": allowed + dice.one_of((0.01, -0.01))})
        )
    for name in wrong:
        found = answer.tried(RunTerms, **(told | {name: wrong[name]}))
        if isinstance(found, RunTerms):
            answer.tell(found.model_dump_json(exclude={"facts"}), found.unit, found.mode.name, found.facts)
            answer.exact(found.noise_delta)


def _made_terms(dice: Dice, answer: CaseAnswer) -> None:
    """Terms that are made from public facts, of an algorithm with any inputs."""
    dp = DpMode(dice.one_of(("central", "distributed", "local", "off")))
    events = dice.one_of((None, 0.5, 1.0)) if dp == "local" else None
    inputs: dict[str, Any] = {
        "features": dice.floats(5, dice.whole(1, 3)).astype(np.float32),
        "former_signal": np.array([dice.real(0, 50)]),
        "panel_users": np.array([dice.whole(0, 9)]),
        "other": np.arange(dice.whole(1, 3)),
    }
    inputs = dict(dice.shuffled(list(inputs.items()))[: dice.one_of((0, 1, 1, 2, 4))])
    told: dict[str, Any] = {
        "population": dice.one_of(("readers",) * 9 + ("",)),
        "run": "run-7",
        "algorithm": "popularity" if events is None else "event-mf",
        "settings": {} if events is None else {"inclusion": events, "rounds": 2},
        "n_users": dice.whole(2, 5000),
        "n_items": 5,
        "catalogue": "ab" * 32,
        "inputs": inputs,
        "seed": dice.whole(0, 99),
        "dp": dp,
        "noise": dice.one_of(tuple(Noise)),
        "epsilon": None if dp == "off" else 5.0,
        "delta": dice.one_of((1e-6, 2.0**-20)),
        "cohort": CohortTerms(n_max=40, n_min=30, c_max=3, masks=False) if dp == "distributed" else None,
        "cohort_floor": dice.whole(1, 9),
        "per_node": dice.whole(1, 9),
        "about": {"version": "1"},
        "events": events,
    }
    more = {"clip_norm": dice.one_of((0.5, 2.0)), "grid": dice.one_of((2**10, 2**26, None)), "plan_seconds": 60}
    terms = answer.tried(make_terms, **told, **dict(dice.some_of(list(more.items()))))
    if isinstance(terms, RunTerms):
        answer.tell(terms.model_dump(exclude={"facts", "inputs"}), terms.facts.model_dump())
        answer.tell(terms.inputs == (digest(pack_inputs(inputs)) if inputs else None))
    for mode in DpMode:
        delta = dice.one_of((cohort.RESERVED_DELTA, 2.0**-20, math.nextafter(cohort.RESERVED_DELTA, 1.0), 0.0))
        for inclusion in (None, dice.one_of((1.0, 0.5))):
            answer.exact(answer.tried(noise_delta, mode, delta, inclusion))
    steps = Sampling(inclusion=dice.one_of((1.0, 0.5)), steps=dice.whole(1, 3))
    with coarse_steps(100):
        answer.tell(attempt_mu2(256, 400 + dice.whole(0, 9), None), attempt_mu2(256, 400, steps))


SEAMS = (
    Seam("budgets: prices of attempts, void ones between", _schedules, 36),
    Seam("terms: what they must be", _checked_terms, 18),
    Seam("terms: made from public facts", _made_terms, 12),
)
