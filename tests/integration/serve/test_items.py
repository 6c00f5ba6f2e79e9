"""Items that an operator adds between two rounds, at devices in Python, in Node and in Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from palate_cli.cli import run
from palate_server.service.setup import make_site
from palate_server.service.status import read_status

pytestmark = pytest.mark.slow
NEW = "item-new"


@pytest.fixture
def page(parts: Any) -> int:
    return int(parts.free_ports(1)[0])


@pytest.fixture
def serving(parts: Any, page: int, tmp_path: Path) -> Iterator[Any]:
    """A server with nginx whose next run is due 72 seconds after the last."""
    origins, ports = json.dumps([f"http://localhost:{page}"]), parts.free_ports(4)
    text = parts.CONFIG.format(size=6, dropout=0.17, every_hours=0.02, link="flower", origins=origins, ports=ports)
    text = text.replace("exchange_seconds = 30.0", "exchange_seconds = 200.0")
    text = text.replace("wait_seconds = 20.0", "wait_seconds = 300.0")  # nobody is missing: it ends before
    server = parts.Server(make_site(tmp_path / "site", text, parts.ITEMS), dev=False)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def together(fleet: Any, webs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """All devices online at once: what became of Python's, and of those of the web."""
    with ThreadPoolExecutor(len(webs)) as pool:
        asked = [pool.submit(web.ask, do="sync", seconds=400) for web in webs]
        own = fleet.sync(seconds=400.0)
        return own, [each for future in asked for each in future.result()]


@pytest.mark.soak
def test_devices_have_new_items_before_the_next_round_which_is_over_them(
    parts: Any, serving: Any, page: int, tmp_path: Path
) -> None:
    """A minute of it is the one for which devices are sent home; `test_items.py` of the server has the rest, faster."""
    fleet = parts.Fleet(serving, tmp_path / "fleet")
    webs = [
        parts.WebDevices.start(at, authority=serving.site.tls / "ca.pem") for at in (["node"], ["chromium", str(page)])
    ]
    try:
        fleet.enrol(3)
        for web, count in zip(webs, (2, 1), strict=True):
            invitations = [each.to_json() for each in serving.invitations(count)]
            names = {"publicKey": serving.site.key().public, "population": "readers"}
            web.ask(do="open", **names, invitations=invitations, items=[list(parts.ITEMS[:3])] * count)
        own, pages = together(fleet, webs)
        assert {each.rounds for each in own} | {each["rounds"] for each in pages} == {1}, serving.words()
        serving.wait(lambda: bool(serving.events("published")), seconds=120.0)
        (tmp_path / "more").write_text("".join(f"{item}\n" for item in (NEW, *parts.ITEMS)))
        assert run(["serve", "items", str(serving.site.folder), str(tmp_path / "more")]) == 0
        serving.wait(lambda: bool(serving.events("items added")), seconds=60.0)

        own, pages = together(fleet, webs)
        assert {(each.rounds, each.refused, each.model) for each in own} == {(0, 0, True)}, (
            "they come back for the round"
        )
        assert {(each["rounds"], each["refused"], each["model"]) for each in pages} == {(0, 0, True)}
        assert all(NEW in [each.item for each in device.recommend(1000)] for device in fleet.devices)
        assert all(device.recommend(items=[NEW])[0].item == NEW for device in fleet.devices)
        assert [each.get("version") for each in pages[:2]] == [len(parts.ITEMS) + 1] * 2
        assert NEW in pages[2]["named"]

        own, pages = together(fleet, webs)
        while not serving.events("round")[1:]:  # the minute may not be over
            own, pages = together(fleet, webs)
        assert (serving.events("aborted"), [each.refused for each in own]) == ([], [0] * 3), serving.words()
        assert [each["refusals"] for each in pages] == [[]] * 3
        status = read_status(serving.site)
        assert (status.attempts, status.releases) == (2, 2)
    finally:
        for web in webs:
            web.close()
        fleet.close()
