"""Trust: the assumptions under which the cost of a round holds, as a device records them with its charge.

A cost holds if at most a given number of the cohort's devices are corrupt. The cost if all others are corrupt follows
from the device's own noise alone.

    >>> Trust(corrupt=10, cohort=100, alone_mu2=8.0).said
    "at most 10 of the 100 devices of a cohort are the operator's"
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from palate_core.errors import IntegrityError

if TYPE_CHECKING:
    from palate_core.plan import RoundPlan

MOST = 0.99e8
"""mu^2 above which there is no guarantee: the accountant counts up to mu = 10^4."""


@dataclass(frozen=True)
class Trust:
    """The assumptions of one round's cost.

    Attributes:
        corrupt: how many of the cohort's devices may be corrupt; None if the noise isn't shared.
        cohort: the largest size of the cohort; None if the noise isn't shared.
        alone_mu2: the cost if all other devices are corrupt, as mu^2; None: it isn't bounded.
    """

    corrupt: int | None
    cohort: int | None
    alone_mu2: float | None

    @classmethod
    def of(cls, plan: RoundPlan) -> Trust:
        """The assumptions of a plan."""
        alone = plan.mu2_alone if plan.mu2_alone < math.inf else None
        if plan.cohort is None:
            return cls(None, None, alone)
        return cls(plan.cohort.c_max, plan.cohort.n_max, alone)

    @classmethod
    def read(cls, text: str) -> Trust:
        """Read what `text` wrote.

        Raises:
            IntegrityError: the text is damaged.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise IntegrityError("what a charge relies on must be what was written, got something else") from None

    @property
    def text(self) -> str:
        """The JSON that the device's ledger keeps."""
        return json.dumps(asdict(self))

    @property
    def said(self) -> str:
        """The assumption in words; empty if there is none."""
        if self.cohort is not None:
            return f"at most {self.corrupt} of the {self.cohort} devices of a cohort are the operator's"
        return "the server, which saw what was sent, added its noise" if self.alone_mu2 is None else ""


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
            central=next((each.said for each in trusts if not each.cohort and each.said), ""),
        )


def conditions(trusts: Sequence[Trust]) -> tuple[str, ...]:
    """All assumptions of the total cost of several rounds, in words."""
    relied, found = Reliance.of(trusts), list[str]()
    if relied.least is not None:
        found.append(("in each round no more than it allows for, " if relied.several else "") + relied.least.said)
    if relied.central:
        found.append(relied.central)
    return tuple(found)


def worst_case_costs(trusts: Iterable[Trust]) -> list[float] | None:
    """mu^2 of each round if all others are corrupt; None if one of them, or the sum, isn't bounded."""
    costs = [math.inf if each.alone_mu2 is None else each.alone_mu2 for each in trusts]
    return costs if math.fsum(costs) < MOST else None


def _cohort(trust: Trust) -> tuple[int | None, int | None]:
    return trust.corrupt, trust.cohort
