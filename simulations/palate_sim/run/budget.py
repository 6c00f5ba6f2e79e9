"""Budget: whether a population's ledger can be kept at a path, and whether its budget is enough for a run.

The checks come before the run folder is made: a refused run has written nothing and charged nothing.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from palate_common.algorithms import make_algorithm
from palate_core.accounting import ACCOUNTANT, epsilon_of, mu_of
from palate_core.cohort_terms import MAX_ATTEMPTS
from palate_core.errors import BudgetError, InputError
from palate_server.ledger.history import BudgetEntry, reserves
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.terms import RunTerms
from palate_sim.config import SimulationConfig


def check_ledger(path: Path, out: Path, *, given: bool) -> None:
    """Refuse a path where no ledger can be kept, before the run folder is made.

    Raises:
        InputError: it is in the run folder, which the ledger must outlive, or is not writable.
    """
    if path == out.resolve() or out.resolve() in path.parents:
        raise InputError(f"`--ledger` must lie outside the run folder, which it outlives, got {path}")
    if given and not path.exists():
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise InputError(f"`--ledger` must be in a folder to write to, got {path}: {error.strerror}") from None


def check_budget(path: Path, config: SimulationConfig, terms: RunTerms) -> None:
    """Refuse a run that exceeds its population's budget, before its folder is made.

    Raises:
        BudgetError: too little budget or too few attempts that delta is reserved for are left, or the run would raise
            the budget.
        InputError: the ledger is another population's, or can't be read.
    """
    asked, spent, attempts = _asked_budget(config, terms), 0.0, 0
    budget: BudgetEntry | None = None
    if path.is_dir() or (path.exists() and path.stat().st_size):  # an empty file becomes a ledger with the run
        with Ledger(path, population=terms.population, unit=terms.unit) as ledger:
            budget, spent = _budget(ledger), ledger.spent()
            attempts = sum(map(reserves, ledger.entries()))
    rounds = len(make_algorithm(terms.algorithm, terms.settings, terms.facts).shares)
    if terms.mode.reserved_delta(terms.events) > 0 and attempts and attempts + rounds > MAX_ATTEMPTS:
        raise BudgetError(
            f"the population {terms.population!r} has had {attempts} of the {MAX_ATTEMPTS} attempts that a part of "
            f"delta is kept for, and this run needs {rounds}: give what isn't released a ledger of its own (`--ledger`)"
        )
    limits = [mu2 for mu2 in (asked, None if budget is None else budget.mu2) if mu2 is not None]
    if budget is not None and asked is not None and asked > budget.mu2 and not _is_kept(budget, config):
        raise BudgetError(
            f"`privacy.lifetime_epsilon` must be at most {budget.epsilon:g} at delta {budget.delta:g}, the budget of "
            f"{terms.population!r}, got {config.privacy.lifetime_epsilon:g}: a budget only goes down"
        )
    needed = float(terms.facts.mu or 0.0) ** 2
    if not limits or spent + needed * (1 - 1e-9) <= min(limits):
        return
    whole, gone, after = (
        f"{epsilon_of(mu=math.sqrt(mu2), delta=terms.delta):.4g}" for mu2 in (min(limits), spent, spent + needed)
    )
    raise BudgetError(
        f"the population {terms.population!r} has a lifetime budget of epsilon {whole} and has spent {gone}; with this "
        f"run it would be {after} (at delta {terms.delta:g}, user-level, zero-out, {ACCOUNTANT}): ask for a smaller "
        "epsilon"
    )


def _asked_budget(config: SimulationConfig, terms: RunTerms) -> float | None:
    lifetime = config.privacy.lifetime_epsilon
    return None if lifetime is None else mu_of(epsilon=lifetime, delta=terms.delta) ** 2


def _budget(ledger: Ledger) -> BudgetEntry | None:
    return next((entry for entry in reversed(ledger.entries()) if entry.kind == "budget"), None)


def _is_kept(budget: BudgetEntry, config: SimulationConfig) -> bool:
    """Whether the ledger's stricter budget stays: the same epsilon allows more mu^2 at another run's delta."""
    lifetime = config.privacy.lifetime_epsilon
    return lifetime is not None and lifetime <= budget.epsilon


def set_budget(ledger: Ledger, config: SimulationConfig, terms: RunTerms) -> None:
    """Enter the population's lifetime budget, if the run sets a lower one than the present."""
    asked, budget = _asked_budget(config, terms), _budget(ledger)
    if asked is None or (budget is not None and asked >= budget.mu2 and _is_kept(budget, config)):
        return
    ledger.set_budget(mu2=asked, epsilon=float(config.privacy.lifetime_epsilon or 0.0), delta=terms.delta)
