"""Trust: the assumptions under which the cost of a round holds, as a device records them with its charge.

A cost holds if at most a given number of the cohort's devices are corrupt. The cost if all others are corrupt follows
from the device's own noise alone.

    >>> Trust.read(Trust(corrupt=10, cohort=100, alone_mu2=8.0).text).corrupt
    10
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from palate_core.errors import IntegrityError
from palate_core.plan import RoundPlan


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
