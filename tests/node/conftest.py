"""A node of two people who agreed to `store`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from households import Household, model_of

from palate_node.people import OWNER, HostedPeople


@pytest.fixture
def household(tmp_path: Path) -> Iterator[Household]:
    starter = model_of(tmp_path / "starter")
    people = HostedPeople(tmp_path / "node", starter)
    made = Household(tmp_path / "node", starter, people)
    for name in (OWNER, "anna", "ben"):
        made.tokens[name] = people.add(name)
    for each in people:
        each.device.consent.grant("store")
    yield made
    made.close()
