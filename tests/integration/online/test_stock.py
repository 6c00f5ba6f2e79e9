"""A device at Flower's own SuperLink, with Flower's own grid: it asks for each part, as Flower's own node does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from deployment import Deployment

pytestmark = pytest.mark.soak  # a deployment of its own; tests/client/test_fleet.py has each request


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    found = Deployment(tmp_path_factory.mktemp("stock"), stock=True)
    try:
        found.start()
        yield found
    finally:
        found.end()


def test_rounds_are_the_simulations(fleet: Any, pool: ThreadPoolExecutor) -> None:
    mine = fleet(3)
    results = mine.sync(pool)
    outcome = mine.order()()
    assert "error" not in outcome, outcome
    assert [release["model"] for release in outcome["releases"]] == mine.simulated()
    assert {(each.result().ended, each.result().rounds) for each in results} == {("come back", 1)}
    asked = [path.rpartition("/")[2] for path in mine.deployment.gateway.seen]
    assert asked.count("push-object") >= 3 * 3
    assert asked.count("pull-object") >= 3
