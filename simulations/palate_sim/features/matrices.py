"""Matrices: numbers about items from a file, such as embeddings of images, audio or text, as a source of features.

| file | holds |
|---|---|
| CSV, parquet | a column `item_id`; every other column is a number |
| npz | an array `item_id` [n], and one array of numbers [n, m] by any other name |
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate_core.errors import InputError

KNOWN = "a CSV, parquet or npz file with item_id and numbers"


def read_matrix(path: Path, items: Sequence[str], name: str) -> npt.NDArray[np.float64]:
    """The numbers in row order, float64 [n_items, m]; an item that the file lacks has the mean of the others.

    Args:
        path: the file.
        items: item ids in row order.
        name: the setting, for messages.

    Raises:
        InputError: no such file, no matrix, or no finite number for any of the items.
    """
    try:
        table = _table(path)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, pd.errors.ParserError):
        raise InputError(f"`{name}` must be {KNOWN}, got {path}, which is not") from None
    if "item_id" not in table.columns:
        raise InputError(
            f"`{name}` must be {KNOWN}, got {path} with the columns {', '.join(map(str, table.columns[:8]))}"
        )
    try:
        numbers = table.drop_duplicates("item_id").set_index("item_id").astype(np.float64).reindex(list(items))
    except (ValueError, TypeError) as error:
        raise InputError(f"`{name}` must be {KNOWN}, got {path}: {' '.join(str(error).split())}") from None
    values: npt.NDArray[np.float64] = numbers.fillna(numbers.mean()).to_numpy(np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InputError(f"`{name}` {path} must have finite numbers for items of this data, and has not")
    return values


def _table(path: Path) -> pd.DataFrame:
    """The file as a frame with item_id as text."""
    if path.suffix == ".npz":
        return _archive(path)
    if path.suffix in (".parquet", ".pq"):
        table = pd.read_parquet(path)
        return table.assign(item_id=table["item_id"].astype("str"))
    return pd.read_csv(path, dtype={"item_id": str})


def _archive(path: Path) -> pd.DataFrame:
    """The two arrays of an npz archive, read without pickle."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        others = [key for key in archive.files if key != "item_id"]
        ids, numbers = archive["item_id"], archive[others[0] if len(others) == 1 else "features"]
    if ids.ndim != 1 or numbers.ndim != 2 or len(ids) != len(numbers):
        raise ValueError("arrays that don't fit")
    table = pd.DataFrame(numbers.astype(np.float64))
    return table.assign(item_id=ids.astype(str))
