"""Learning algorithms: the base class, the algorithms that come with Palate, and the registry for others.

`__all__` names everything that an algorithm in another package needs.
"""

from palate_common.algorithms.base import Algorithm, EventAlgorithm, Factors, PublicFacts, Reach, State
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.registry import (
    add_adapter,
    admit,
    algorithm_class,
    algorithm_names,
    grown_state,
    lent,
    make_algorithm,
    next_state,
)
from palate_common.interactions import Interactions
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import DenseBlock, OuterBlock, Update, whole_direction
from palate_core.layout import BlockSpec, Layout

__all__ = [
    "Algorithm",
    "BlockSpec",
    "DenseBlock",
    "EventAlgorithm",
    "Factors",
    "Interactions",
    "Layout",
    "Links",
    "OuterBlock",
    "PairBlock",
    "PublicFacts",
    "Reach",
    "State",
    "Update",
    "add_adapter",
    "admit",
    "algorithm_class",
    "algorithm_names",
    "grown_state",
    "lent",
    "make_algorithm",
    "next_state",
    "whole_direction",
]
