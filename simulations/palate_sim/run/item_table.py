"""Item table: what a model knows of items as plain columns, for tools that know nothing of Palate.

    result.item_table().to_pandas()

| column | type | |
|---|---|---|
| `item_id` | text | in the model's row order |
| `title` | text | its title and year; left out where the model came without |
| `popularity` | float32 | the released count of users, with its noise; left out where the algorithm counts none |
| `vector` | list of k float32 | left out where scores are no products of vectors |

A score is the product of a user's vector and an item's; links, where a model has them, add to a few scores. The table's
metadata has, under the key `palate`, a JSON object: `format`, `run`, `model_hash`, `privacy` and `parts` (source of the
score -> its columns, first and past the last).
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from palate_common.algorithms.popularity import COUNTS
from palate_common.models.published import Published

KEY = b"palate"
"""Of the table's metadata."""


def item_table(published: Published, *, run: str, privacy: str) -> pa.Table:
    """The items of a published model as a table.

    Args:
        published: the model with its catalogue.
        run: the run's id.
        privacy: the words that stand beside the epsilon of the model.
    """
    model, facts = published.model, {"format": 1, "run": run, "model_hash": published.model.hash, "privacy": privacy}
    columns: dict[str, pa.Array] = {"item_id": pa.array(published.items, pa.string())}
    if published.table is not None:
        columns["title"] = pa.array([published.table.titles.get(item) for item in published.items], pa.string())
    counts = model.state.get(COUNTS)
    if counts is not None and counts.shape == (len(published.items),):
        columns["popularity"] = pa.array(counts.astype(np.float32))
    factors = model.algorithm.factors(model.state)
    if factors is not None:
        vectors = factors.items()
        facts |= {"parts": {name: [part.start, part.stop] for name, part in factors.parts.items()}}
        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return pa.table(columns).replace_schema_metadata({KEY: json.dumps(facts)})
