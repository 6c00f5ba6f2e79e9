"""Learning algorithms: the seam, those that come with Palate, and how others register theirs."""

from palate_common.algorithms.base import Algorithm, EventAlgorithm, Factors, PublicFacts, State
from palate_common.algorithms.registry import (
    add_adapter,
    admit,
    algorithm_class,
    algorithm_names,
    lent,
    make_algorithm,
    next_state,
)

__all__ = [
    "Algorithm",
    "EventAlgorithm",
    "Factors",
    "PublicFacts",
    "State",
    "add_adapter",
    "admit",
    "algorithm_class",
    "algorithm_names",
    "lent",
    "make_algorithm",
    "next_state",
]
