"""Reserved delta: the part of delta that attempts use besides their noise, by one rule for ledger, terms and device.

Masks fail with a small probability in each attempt, and sampled steps have a tail. Both are at most `GRAPH_FAILURE`.

    >>> reserved_delta(3) == reserved_delta(1024) == 2.0**-30, reserved_delta(2048) == 2.0**-29
    (True, True)
    >>> uses_reserve(masked=True, inclusion=1), uses_reserve(masked=False, inclusion=1.0)
    (True, False)
    >>> uses_reserve(masked=False, inclusion=0.1), uses_reserve(masked=False, inclusion="?")
    (True, True)
"""

from __future__ import annotations

from palate_core.cohort_terms import GRAPH_FAILURE, MAX_ATTEMPTS


def uses_reserve(*, masked: bool, inclusion: object) -> bool:
    """Whether an attempt uses a part of the reserve.

    **Guarantees:** what can't be read counts: only a number from 1 says that no step is sampled.

    Args:
        masked: whether a cohort shares the noise, as behind masks.
        inclusion: the probability with which an event takes part in a step; 1 where the unit is the user.
    """
    return masked or not (isinstance(inclusion, int | float) and inclusion >= 1)


def reserved_delta(attempts: int) -> float:
    """The part of delta that so many attempts may use: at least that of `MAX_ATTEMPTS`, a population's most."""
    return max(MAX_ATTEMPTS, attempts) * GRAPH_FAILURE
