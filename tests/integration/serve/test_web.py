"""Devices in Python, in Node and in Chromium take part in one masked round, through nginx and TLS."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from palate_common.models import published

sys.path.insert(0, str(Path(__file__).parent))  # tests have no packages
from conftest import ITEMS, Fleet, Server, WebDevices, free_ports, make_server

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> int:
    """The port of the page on which Chromium's devices are."""
    return free_ports(1)[0]


@pytest.fixture
def server(tmp_path: Path, page: int) -> Iterator[Server]:
    found = make_server(tmp_path / "site", dev=False, origins=[f"http://localhost:{page}"])
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def webs(server: Server, page: int) -> Iterator[list[WebDevices]]:
    authority = server.site.tls / "ca.pem"
    found = [WebDevices.start(place, authority=authority) for place in (["node"], ["chromium", str(page)])]
    try:
        yield found
    finally:
        for web in found:
            web.close()


def together(webs: Sequence[WebDevices], fleet: Fleet) -> tuple[list[Any], list[Any]]:
    """All devices online at once: what became of those of the web, and of Python's."""
    with ThreadPoolExecutor(len(webs)) as pool:
        asked = [pool.submit(web.ask, do="sync", seconds=280) for web in webs]
        own = fleet.sync(seconds=280.0)
        return [each for future in asked for each in future.result()], own


def test_a_cohort_of_python_node_and_chromium_is_released(server: Server, fleet: Fleet, webs: list[WebDevices]) -> None:
    names = {"publicKey": server.site.key().public, "population": server.site.config.population}
    fleet.enrol(2)
    for first, web in zip((2, 4), webs, strict=True):
        invited = [invitation.to_json() for invitation in server.invitations(2)]
        items = [[ITEMS[at], ITEMS[at + 9], ITEMS[3]] for at in range(first, first + 2)]
        assert web.ask(do="open", **names, invitations=invited, items=items) == [first, first + 1]
    results, own = together(webs, fleet)
    said = [(each["ended"], each["reason"], each["rounds"], each["refusals"]) for each in results]
    assert said == [("come back", "", 1, [])] * 4, server.words()
    assert [each.rounds for each in own] == [1] * 2
    server.wait(lambda: bool(server.events("published")), seconds=30.0)
    latest = json.loads((server.site.models / "latest").read_bytes())
    folder = server.site.models / latest["manifest"]
    found = published.read(folder, public_key=names["publicKey"])
    assert found.model.header.releases == 1
    assert json.loads((folder / "privacy_card.json").read_bytes())["mode"] == "distributed"
    # The web devices' own account: what they spent is what Python's devices spent, and each step left once.
    spent = {fleet.devices[0].privacy_report().spending.epsilon} | {each["epsilon"] for each in results}
    assert max(spent) - min(spent) < 1e-6
    steps = ["advertise", "share", "check", "input", "consistency", "unmask"]
    assert [[each["what"] for each in result["left"]] for result in results] == [steps] * 4
    # An exchange is one request, as Python's is, beside those for model, directory, coming and going; one that waits in
    # vain is another. A page asks once for each address whether it may, not for each request.
    for each in [*results, *(vars(each) for each in own)]:
        assert each["exchanges"] == 7
        assert each["requests"] <= each["exchanges"] + 10 + each["seconds"] / 20.0, each
    assert {each["preflights"] for each in results if "preflights" in each} <= set(range(1, 13))
    # They take the model into use, and aren't asked again before the next run is due.
    again, own = together(webs, fleet)
    assert {(each["ended"], each["rounds"], each["model"]) for each in again} == {("come back", 0, True)}
    assert {(each.ended, each.rounds, each.model) for each in own} == {("come back", 0, True)}
