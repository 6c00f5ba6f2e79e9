"""Torch modules as federated recommenders: the base class for your own, and the modules that come with Palate.

It needs the extra `torch`. Nothing else of Palate imports this package; entry points load what is in it.
"""

from palate_torch.algorithm import ModuleAlgorithm, federated
from palate_torch.matrix_factorization import MatrixFactorization
from palate_torch.recommender import Catalogue, Events, Recommender, User
from palate_torch.settings import ModuleSettings
from palate_torch.two_tower import TwoTower

__all__ = [
    "Catalogue",
    "Events",
    "MatrixFactorization",
    "ModuleAlgorithm",
    "ModuleSettings",
    "Recommender",
    "TwoTower",
    "User",
    "federated",
]
