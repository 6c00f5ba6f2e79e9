"""The model registry: versions, retention, gates, going back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate_common.errors import InputError, IntegrityError, RefusedError
from palate_common.models import published
from palate_common.records.canonical import digest
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import LATEST, latest, listed, publish, signal_of
from palate_server.service.status import read_status

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]


def card(extract: object) -> bytes:
    return b"card"


def runs(service: Any) -> list[str]:
    return [event["run"] for event in service.events("closed")]


@pytest.fixture(scope="module")
def shared(make_shared_service: Maker) -> Any:
    found = make_shared_service(every_hours=0.0, epsilon=1.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.time.sleep", lambda seconds: None)
        found.operate(2)
    return found


@pytest.fixture
def service(make_service: Maker, copy_of: Callable[[Any], Any], shared: Any) -> Any:
    """A copy of a service that has closed two runs."""
    return copy_of(shared)


def reconfigured(service: Any, section: str) -> Site:
    file = service.site.config_file
    file.write_text(file.read_text() + section)
    return Site.at(service.site.folder)


def test_what_is_offered_is_named_by_its_hash_and_signed(service: Any) -> None:
    made = publish(service.site, runs(service)[0], card)
    offer = json.loads((service.site.models / LATEST).read_bytes())
    folder = service.site.models / offer["manifest"]
    assert offer["version"] == made.version
    assert digest((folder / published.MANIFEST).read_bytes()) == offer["manifest"]
    assert published.read(folder, public_key=service.site.key().public).model.hash == made.model.hash
    assert made.manifest.model_dump()["card"] == digest(b"card")
    assert (folder / "privacy_card.json").read_bytes() == b"card"


def test_versions_only_grow_also_when_going_back(service: Any) -> None:
    first, second = runs(service)
    versions = [publish(service.site, run, card).version for run in (first, second, first)]
    assert versions == sorted(set(versions))
    assert latest(service.site).manifest.model_dump()["run"] == first
    assert read_status(service.site).runs == {second: "published", first: "published"}


def test_old_models_go(service: Any) -> None:
    site = reconfigured(service, "\n[release]\nkeep = 2\n")
    for _ in range(4):
        publish(site, runs(service)[0], card)
    found = listed(site)
    assert len(found) == 2
    assert found[0][0] == latest(site).version
    assert not list(site.models.glob(".draft*"))


def test_gates_look_at_released_values_and_say_no(service: Any) -> None:
    run = runs(service)[0]
    before = latest(service.site).version
    for gate, reason in (("rounds = 99", "99 released rounds"), ("signal = 1e9", "a signal of 1e[+]09")):
        file = service.site.config_file
        text = file.read_text()
        site = reconfigured(service, f"\n[release]\n{gate}\n")
        with pytest.raises(RefusedError, match=reason):
            publish(site, run, card)
        file.write_text(text)
    assert latest(service.site).version == before, "nothing was published"


def test_what_the_operator_says_of_recent_events_is_signed_with_each_model(service: Any) -> None:
    run = runs(service)[0]
    assert publish(service.site, run, card).manifest.recent_half_life_days is None
    site = reconfigured(service, "\n[release]\nrecent_half_life_days = 30\n")
    assert publish(site, run, card).manifest.recent_half_life_days == 30.0


def test_signal_is_what_shows_above_the_noise() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0, 2.0, 10_000)
    state = {"counts": noise, "noise": np.array([2.0, 0.0])}
    assert signal_of(state) < 0.1
    assert signal_of({**state, "counts": noise + 6.0}) == pytest.approx(9.0, rel=0.05)
    assert signal_of({"counts": noise}) == 0.0


def test_only_a_closed_run_is_published(service: Any) -> None:
    with pytest.raises(InputError, match="closed"):
        publish(service.site, "never", card)


def test_a_changed_release_is_not_published(service: Any) -> None:
    run = runs(service)[0]
    file = next((service.site.run(run) / "releases").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="sealed"):
        publish(service.site, run, card)
