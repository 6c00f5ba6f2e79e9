"""Cohorts: who adds how much of the noise, how many must be there, and on which grid their sum fits."""

from __future__ import annotations

import math
from typing import Any

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.accounting.values import any_size
from palate_core import cohort_terms as cohort
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import PalateError
from palate_core.privacy_mode import MODES, DpMode, mode_of
from palate_server.rounds import cohort as cohorts


def _shares_of_noise(dice: Dice, answer: CaseAnswer) -> None:
    """Cohorts of devices: what they may be, each one's share of the noise, its distance, and the bits of a sum."""
    c_max = dice.one_of((0, 1, 2, dice.whole(0, 20_011)))
    n_min = c_max + dice.one_of((0, 1, 2, dice.whole(0, 20_011)))
    told: dict[str, Any] = {
        "n_max": n_min + dice.one_of((-1, 0, 1, dice.whole(0, 10**4), 2**26 - n_min, 2**26 + 1 - n_min)),
        "n_min": n_min,
        "c_max": c_max,
        "masks": dice.chance(0.5),
        "directory": dice.one_of((None, "ab" * 32, "AB" * 32, "ab" * 31)),
        "max_tosses": dice.one_of((16, 0, 1, 1024, 1025)),
    }
    if dice.chance(0.6):
        told |= {"masks": told["directory"] is not None, "c_max": max(1, c_max), "n_min": max(n_min, c_max + 2)}
    if dice.chance(0.6):
        told |= {"n_max": max(told["n_max"], told["n_min"])}
        told.pop("max_tosses")
    found = answer.tried(CohortTerms, **told)
    answer.tell(found, found.shares if isinstance(found, CohortTerms) else None)
    shares = dice.one_of((1, 2, 3, dice.whole(1, 20_011), 0, -1, 2**26))
    near = math.isqrt(abs(shares) * dice.whole(3, 9) ** 2) + dice.whole(0, 1)  # a share is just a whole number, or not
    for sigma in (64, near, dice.one_of((0, 1, 2, 3, dice.whole(1, 1000), dice.whole(1, 2**40)))):
        share = answer.of(cohort.share_sigma, sigma=sigma, shares=shares)
        slack = answer.of(cohort.shares_slack, sigma=sigma, shares=shares)
        answer.tell(None if slack is None else (slack == 0, round(1e3 * math.log(slack)) // 4 if slack else 0))
        grid = dice.one_of((1, 2**14, 2**26, dice.whole(1, 2**26)))
        for n_max in (1, dice.one_of((2, 3, 4, 2**26, dice.whole(1, 10**5))), 2 ** dice.whole(30, 40)):
            answer.of(cohort.modulus_bits, n_max=n_max, grid=grid, share=share or 0)
    answer.of(cohort.modulus_bits, n_max=1, grid=2**61 - 128 + dice.whole(-1, 2), share=1)


def _modes(dice: Dice, answer: CaseAnswer) -> None:
    """Modes of privacy: who adds how much noise, and what is refused."""
    name = dice.one_of((*MODES, *MODES, "Central", "", None, DpMode.LOCAL, "offf"))
    mode = answer.tried(mode_of, name)
    if isinstance(mode, PalateError):
        return
    answer.tell(mode, mode.alone, mode.trusts_server)
    many = CohortTerms(n_max=dice.whole(100, 999), n_min=50, c_max=dice.whole(1, 49), masks=False)
    users, sigma, grid = dice.whole(0, 9), dice.whole(0, 10**6), dice.whole(1, 2**20)
    for group in (None, many):
        for events in (None, object()):
            try:
                answer.tell(mode.check(group, events))
            except ValueError:
                answer.tell("refused", group, events is None)
        answer.of(mode.device_sigma, sigma=sigma + 1, cohort=group)
        answer.of(mode.released_sigma, users, sigma=sigma + 1, cohort=group)
        for n in (users, 1, 2 ** dice.whole(8, 45)):
            answer.of(mode.bits, n, grid=grid, sigma=sigma + 1, cohort=group)
    answer.tell(mode.released_sigma(users, sigma=0, cohort=many) if sigma % 2 and not mode.cohort else None)
    for inclusion in (None, 1.0, 1, 0.5, 0.0):
        answer.exact(mode.reserved_delta(inclusion))
    answer.exact(mode.reserved_delta(None))


def _cohorts(dice: Dice, answer: CaseAnswer) -> None:
    """A run's cohort, and a grid on which its sum and its noise fit."""
    n_users = dice.one_of((0, 1, 2, 3, 5, 10, dice.whole(3, 250), 249, 250, 251, 300, 1000))
    corrupt, dropout = (dice.one_of((0.0, 0.1, 0.25, 0.5, dice.real(), 1.0, 1e-9)) for _ in range(2))
    directory = dice.one_of((None, "cd" * 32))
    answer.tell(cohorts.least_of(n_users, dropout=dropout))
    answer.of(cohorts.choose_cohort, n_users=n_users, corrupt=corrupt, dropout=dropout, directory=directory)
    answer.of(cohorts.choose_cohort, n_users=n_users + 1, corrupt=corrupt / 8, dropout=dropout / 8, directory=directory)
    for corrupted in range(1, 5):
        few = {"n_users": 5, "dropout": dice.one_of((0.0, 0.1)), "directory": directory}
        answer.of(cohorts.choose_cohort, corrupt=corrupted / 5 - 0.01, **few)
    most = CohortTerms(n_max=2**26, n_min=2, c_max=1, masks=False)
    for local, group in ((True, None), (False, None), (False, most), (True, most)):
        far = {"grid": 2**35, "epsilon": 1.0, "local": local}
        answer.of(cohorts.spendable_grid, group, [dice.one_of((63.0, 33.0))] * 2, **far)
    n_max = dice.one_of((2, 10, dice.whole(2, 2**22), 2**26))
    shared = CohortTerms(n_max=n_max, n_min=dice.whole(2, n_max), c_max=1, masks=False)
    mus = [any_size(dice, -14, 4) for _ in range(dice.whole(1, 4))]
    for group in (None, shared):
        answer.of(cohorts.choose_grid, group, mus=mus)
        answer.of(cohorts.choose_grid, group, mus=[dice.one_of((2.0, 2.0**-5, 2.0**-7, 2.0**-9))])
        for local in (False, True):
            told = {"grid": dice.one_of((None, None, 0, 2**8, 2**14, 2**26)), "epsilon": dice.one_of((1.0, 0.125))}
            answer.of(cohorts.spendable_grid, group, dice.one_of((mus, mus[::-1], [])), local=local, **told)


SEAMS = (
    Seam("cohorts: shares of the noise and bits of a sum", _shares_of_noise, 48),
    Seam("modes of privacy: who adds noise, and how much", _modes, 36),
    Seam("cohorts of a run, and grids for their sums", _cohorts, 30),
)
