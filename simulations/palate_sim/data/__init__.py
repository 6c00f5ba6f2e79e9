"""Datasets: interaction logs from files, frames and named sets, to weighted positives.

>>> import pandas as pd
>>> log = read_log(pd.DataFrame({"user": ["u", "u"], "item": ["a", "b"]}))
>>> positives(log).items
('a', 'b')
"""

from palate_sim.data.columns import ColumnMap
from palate_sim.data.domains import domains_of, joined
from palate_sim.data.log import InteractionLog, describe
from palate_sim.data.positives import Pairs, positives
from palate_sim.data.readers import Source, Workspace, read_log
from palate_sim.data.registry import Dataset, get, is_local, is_place, list_datasets, load

__all__ = [
    "ColumnMap",
    "Dataset",
    "InteractionLog",
    "Pairs",
    "Source",
    "Workspace",
    "describe",
    "domains_of",
    "get",
    "is_local",
    "is_place",
    "joined",
    "list_datasets",
    "load",
    "positives",
    "read_log",
]
