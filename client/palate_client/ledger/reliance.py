"""Reliance: what the costs of several rounds rely on together, and how that is said.

>>> assumption_of(Trust(corrupt=10, cohort=100, alone_mu2=8.0))
"at most 10 of the 100 devices of a cohort are the operator's"
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palate_core.device.trust import Trust

MOST = 0.99e8
"""mu^2 above which there is no guarantee: the accountant counts up to mu = 10^4."""


def assumption_of(trust: Trust) -> str:
    """The assumption of one round's cost in words; empty if there is none."""
    if trust.cohort is not None:
        return f"at most {trust.corrupt} of the {trust.cohort} devices of a cohort are the operator's"
    return "the server, which saw what was sent, added its noise" if trust.alone_mu2 is None else ""


@dataclass(frozen=True)
class Reliance:
    """All assumptions of the total cost of several rounds.

    Attributes:
        least: of several cohorts, that with the smallest corrupt share; None if no noise was shared.
        several: whether there were several.
        central: the assumption about a server that added noise, in words; empty if none did.
    """

    least: Trust | None
    several: bool
    central: str

    @classmethod
    def of(cls, trusts: Sequence[Trust]) -> Reliance:
        """The assumptions of these rounds together."""
        shared = [each for each in trusts if each.cohort]
        return cls(
            least=min(shared, key=lambda each: (each.corrupt or 0) / (each.cohort or 1), default=None),
            several=len(set(map(_cohort, shared))) > 1,
            central=next((assumption_of(each) for each in trusts if not each.cohort and assumption_of(each)), ""),
        )


def conditions(trusts: Sequence[Trust]) -> tuple[str, ...]:
    """All assumptions of the total cost of several rounds, in words."""
    relied, found = Reliance.of(trusts), list[str]()
    if relied.least is not None:
        found.append(
            ("in each round no more than it allows for, " if relied.several else "") + assumption_of(relied.least)
        )
    if relied.central:
        found.append(relied.central)
    return tuple(found)


def worst_case_costs(trusts: Iterable[Trust]) -> list[float] | None:
    """mu^2 of each round if all others are corrupt; None if one of them, or the sum, isn't bounded."""
    costs = [math.inf if each.alone_mu2 is None else each.alone_mu2 for each in trusts]
    return costs if math.fsum(costs) < MOST else None


def _cohort(trust: Trust) -> tuple[int | None, int | None]:
    return trust.corrupt, trust.cohort
