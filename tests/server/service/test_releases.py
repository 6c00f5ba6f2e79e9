"""The model registry: versions, retention, gates, going back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_audit.run.ledger import audit_ledger
from palate_common.models import published
from palate_common.models.manifest import said_by
from palate_common.records.files import write_durably
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import SPENT
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.witnesses import UncosignedError
from palate_server.operation.releases import LATEST, latest, listed, publish, renew, republish, signal_of, unwritten
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
        patched.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
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


def test_every_model_shows_its_own_entry_the_last_of_its_state(service: Any) -> None:
    site, (first, second) = service.site, runs(service)
    start = latest(site)
    made = [start, publish(site, first, card), publish(site, second, card)]
    made.append(republish(site, made[-1]))
    with site.ledger(read_only=True) as ledger:
        leaves = ledger.leaves(ledger.checkpoint().size)[1]
    for each in made:
        said = each.manifest
        assert (said.format, said.publication is not None) == (4, True)
        assert canonical_json(said.publication.entry) == leaves[said.version - 1]
        assert said.publication.entry.get("run") == said.model_dump().get("run")
        assert said.publication.entry["manifest"] == said_by(json.loads(each.files[published.MANIFEST]))
    assert len({each.manifest.publication.entry["manifest"] for each in made}) == 3, (
        "the same is said of what is the same"
    )


def test_a_model_of_an_earlier_version_is_published_again_with_its_entry(service: Any) -> None:
    """Else devices that pin witnesses would have none after an update of the server."""
    site, run = service.site, runs(service)[0]
    made = publish(site, run, card)
    folder = site.models / digest(made.files[published.MANIFEST])
    manifest = json.loads(made.files[published.MANIFEST])
    del manifest["publication"]
    payload = canonical_json({**manifest, "format": 2})
    (folder / published.MANIFEST).write_bytes(payload)
    (folder / published.SIGNATURE).write_text(site.key().sign(published.MANIFEST_TAG, payload))
    folder.rename(site.models / digest(payload))
    (site.models / LATEST).write_bytes(canonical_json({"version": made.version, "manifest": digest(payload)}))
    again = renew(site)
    assert again is not None
    assert (again.manifest.format, again.model.hash, again.version > made.version) == (4, made.model.hash, True)
    assert renew(site) is None


def test_others_who_write_meanwhile_have_it_entered_once_more(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model says what was spent in the state that it shows."""
    site, run, enter, budgets = service.site, runs(service)[0], Ledger.publish, iter((1e-3, 1e-4, 1e-5, 1e-6))

    def meanwhile(ledger: Ledger, *said: Any) -> Any:
        try:
            return enter(ledger, *said)
        finally:
            if (cost := next(budgets, None)) is not None:
                place = {"run": "other", "round_": 0, "attempt": ledger.checkpoint().size, "plan_hash": "ab" * 32}
                with site.ledger() as other:
                    other.charge(**place, mu2=cost, facts={}, run_limit=1e9)

    with site.ledger() as ledger:
        ledger.open_run("other", {})
    monkeypatch.setattr(Ledger, "publish", meanwhile)
    with pytest.raises(UncosignedError, match="others write, too"):
        publish(site, run, card)
    assert latest(site).manifest.model_dump().get("run") is None
    made = publish(site, run, card)
    with site.ledger(read_only=True) as ledger:
        assert ledger.checkpoint().size == made.version
        assert made.manifest.model_dump()[SPENT] == ledger.spent()
        assert len([entry for entry in ledger.entries() if entry.kind == "publish"]) == 6


@pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
def test_an_end_between_entry_and_model_leaves_an_entry_and_the_next_is_made_anew(
    service: Any, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    site, run = service.site, runs(service)[0]
    before = publish(site, run, card) if again else latest(site)
    with monkeypatch.context() as patched:
        patched.setattr(published.Contents, "sign", end)
        with pytest.raises(KeyboardInterrupt):
            republish(site, before) if again else publish(site, run, card)
    assert latest(site).version == before.version
    with site.ledger(read_only=True) as ledger:
        assert unwritten(site, ledger) == (None if again else run)
        size = ledger.checkpoint().size
    made = republish(site, latest(site)) if again else publish(site, run, card)
    assert made.version == size + 1
    assert [each.said for each in audit_ledger(site.folder).findings if each.test == "models kept"]
    assert not [each for each in audit_ledger(site.folder).alarms if each.test in ("models kept", "live ledger")]


def test_an_end_before_the_model_is_offered_lets_it_be_published_anew(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is there, and nobody was shown it: it isn't the model that devices have."""
    site, run = service.site, runs(service)[0]
    before = latest(site)
    with monkeypatch.context() as patched:
        patched.setattr("palate_server.operation.releases.write_durably", end_at(LATEST))
        with pytest.raises(KeyboardInterrupt):
            publish(site, run, card)
    assert latest(site).version == before.version < listed(site)[0][0]
    with site.ledger(read_only=True) as ledger:
        assert unwritten(site, ledger) == run
        size = ledger.checkpoint().size
    assert publish(site, run, card).version == size + 1


def end_at(name: str) -> Callable[..., None]:
    def write(path: Path, data: bytes) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        write_durably(path, data)

    return write


def end(*_: object) -> None:
    raise KeyboardInterrupt


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
