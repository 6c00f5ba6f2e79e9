"""An A/B test from its devices to the operator's page: they toss for arms, and a survey says which is better."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_server.operation.survey_results import read_result
from palate_server.operation.surveys import week_before
from palate_server.service.report import operator_page
from palate_server.service.setup import make_site

pytestmark = pytest.mark.soak
TEST, EACH = "new-order", 26
"""The name of the test, and how many devices of each arm there are."""
VISITS = {"a": 0.25, "b": 0.65}
"""How likely somebody comes on a day, by what the app shows them: an effect that 52 people can show."""


def test_a_survey_of_real_devices_says_on_the_page_which_arm_is_better(tmp_path: Path, parts: Any) -> None:
    """Quick tests of it have made numbers, or made answers; here a server asks installations about the week before."""
    week = week_before(datetime.now(UTC).timestamp())
    text = parts.CONFIG.format(
        ports=parts.free_ports(), size=2 * EACH, dropout=0.1, every_hours=1e6, link="flower", origins="[]"
    ).replace("exchange_seconds = 30.0", "exchange_seconds = 240.0")
    text += f'[surveys]\nweekly = true\nepsilon = 60.0\nexperiments = {{ {TEST} = ["{week}"] }}\n'
    server = parts.Server(make_site(tmp_path / "site", text, parts.ITEMS), True)
    fleet, rng, arms = parts.Fleet(server, tmp_path / "devices"), np.random.default_rng(7), {"a": 0, "b": 0}
    try:
        server.start()
        chosen = []
        while min(arms.values()) < EACH:
            device = fleet.open()
            arm = device.arm(TEST)
            assert arm == device.arm(TEST), "a device stays in its arm"
            if arms[arm] == EACH:  # the arm has enough: this one's user stays away
                continue
            chosen.append(device)
            arms[arm] += 1
            device.consent.grant("analytics", version="1")
            for day in range(7):
                noon = datetime.fromisoformat(f"{date.fromisoformat(week) + timedelta(days=day)}T12:00:00+00:00")
                if rng.random() < VISITS[arm]:
                    device.track("view", str(rng.choice(parts.ITEMS)), time=noon)
        for device in set(fleet.devices) - set(chosen):
            device.close()
        fleet.devices = chosen
        for device, invitation in zip(chosen, server.invitations(2 * EACH), strict=True):
            device.enroll(invitation)
        fleet.sync(seconds=500.0)
        server.wait(lambda: bool(server.events("closed")), seconds=60.0)

        (path,) = server.site.surveys.glob("*.json") if server.site.surveys.is_dir() else [None]
        assert path is not None, server.words()
        found = read_result(path.read_bytes(), public_key=server.site.key().public)["tests"][TEST]["found"]
        assert found["low"] <= VISITS["b"] - VISITS["a"] <= found["high"]
        assert found["low"] > 0

        shown = operator_page(server.site, now=datetime.now(UTC).timestamp(), parts=None)
        row = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown[shown.index(TEST) :]))[:400]
        assert f"{found['difference']:+.3f}" in row
        assert f"{found['low']:+.3f} to {found['high']:+.3f}" in row
    finally:
        fleet.close()
        server.stop()
