"""What a log says of its items is published with the model, as far as a table has it."""

from __future__ import annotations

import pandas as pd
import pytest

from palate_common.models.item_table import MOST_TEXT, ItemFacts, ItemTable
from palate_sim.data.features import published_facts


@pytest.mark.parametrize("column", ["title", "genres", "imdb"])
def test_an_item_with_too_long_a_text_has_no_facts_and_keeps_no_model_from_being_published(column: str) -> None:
    """A run would be trained, and fail at its end."""
    table = pd.DataFrame({"item_id": ["a", "b"], "title": "Heat (1995)", "genres": "Crime", "imdb": "tt0113277"})
    table.loc[0, column] = "x" * (MOST_TEXT + 1)
    found = published_facts(table, ("a", "b"))
    assert found is not None
    assert list(found) == [ItemFacts("a"), ItemFacts("b", "Heat", 1995, (), ("Crime",), {"imdb": "tt0113277"})]
    assert ItemTable.from_bytes(found.to_bytes(), ("a", "b")) == found
