"""Learning algorithms: the protocol, those that come with Palate, and how others register theirs."""

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.algorithms.registry import admit, algorithm_class, algorithm_names, lent, make_algorithm, next_state

__all__ = [
    "Algorithm",
    "PublicFacts",
    "State",
    "admit",
    "algorithm_class",
    "algorithm_names",
    "lent",
    "make_algorithm",
    "next_state",
]
