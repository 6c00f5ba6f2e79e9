"""Learning algorithms: the seam, those that come with Palate, and how others register theirs.

`__all__` is what an algorithm of one's own needs, what it contributes included.
"""

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
from palate_common.interactions import Interactions
from palate_common.mechanism.update import BlockSpec, DenseBlock, Layout, OuterBlock, Update

__all__ = [
    "Algorithm",
    "BlockSpec",
    "DenseBlock",
    "EventAlgorithm",
    "Factors",
    "Interactions",
    "Layout",
    "OuterBlock",
    "PublicFacts",
    "State",
    "Update",
    "add_adapter",
    "admit",
    "algorithm_class",
    "algorithm_names",
    "lent",
    "make_algorithm",
    "next_state",
]
