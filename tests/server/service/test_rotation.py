"""Another release key for the same population: the handover is in the ledger, and everything goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import open_as_device
from typer.testing import CliRunner
from witnessed import Asked, Committee

from palate_audit.run.ledger import audit_ledger
from palate_cli.cli import app
from palate_common.models import published
from palate_core.errors import InputError, IntegrityError, LockedError
from palate_core.log.canonical import digest
from palate_core.plan import SignedPlan
from palate_server.folder.server_folder import Site
from palate_server.folder.witness import WITNESS
from palate_server.ledger.witnesses import UncosignedError
from palate_server.operation import rotation
from palate_server.operation.releases import latest, publish, renew
from palate_server.operation.rotation import prepare, replace_lost_key, rotate_key
from palate_server.rounds.lock import RunLock
from palate_server.service.status import read_status, unpublished
from palate_sim.card.card import card_payload, sign_card

Maker = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(make_shared_service: Maker) -> Any:
    """A server with a published model."""
    service = make_shared_service(every_hours=0.0)
    service.operate()
    with service.site.ledger() as ledger:
        run = str(unpublished(ledger))
    key = service.site.key()
    publish(service.site, run, lambda extract: sign_card(card_payload(extract), key))
    return service


@pytest.fixture
def service(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    return copy_of(trained)


def test_the_population_goes_on_with_another_key(service: Any, tmp_path: Path) -> None:
    site, old = service.site, service.site.key().public
    before, spent = latest(site), read_status(site).mu2_spent
    done = rotate_key(site, tmp_path / "before.tar")
    assert (tmp_path / "before.tar").exists()
    assert site.key().public == done.new != done.old == old
    assert (site.folder / "keys" / f"{old}.pub").read_text() == f"{old}\n"
    assert [path.name for path in (site.folder / "keys").iterdir()] == [f"{old}.pub"]
    found = latest(site)
    assert found is not None
    assert before is not None
    assert done.published is not None
    assert (found.model.hash, found.version > before.version) == (before.model.hash, True)
    assert found.manifest.public_key == done.new
    said, formerly = found.manifest.model_dump(), before.manifest.model_dump()
    for name in ("run", "dp", "noise", "card", "for_release"):
        assert said.get(name) == formerly.get(name)
    for key in (old, done.new):
        assert published.read(site.models / published.digest(found.files[published.MANIFEST]), public_key=key)
    assert read_status(site).mu2_spent == spent

    service.operate()  # devices that pin the old key
    assert service.events("aborted") == []
    data = (site.witness / WITNESS).read_bytes()
    for key in (old, done.new):
        open_as_device(data, public_key=key, last_seen=lambda _: None)
    assert SignedPlan.model_validate_json(data).charge is not None
    section = audit_ledger(site.folder, public_key=old)
    assert [(each.test, each.said) for each in section.findings if each.verdict == "alarm"] == []
    again = rotate_key(site, tmp_path / "again.tar")
    with site.ledger() as ledger:
        assert ledger.first_key(again.new) == old
        assert ledger.log_key(again.new).name == done.log.name


def test_a_server_that_runs_keeps_its_key(service: Any, tmp_path: Path) -> None:
    site = service.site
    for folder in (site.folder, site.state):
        with RunLock(folder), pytest.raises(LockedError, match="the server must be stopped"):
            rotate_key(site, tmp_path / "a.tar")
    (site.state / "attempt.json").write_text('{"at": 1.0, "size": 1, "ended": false}')
    with pytest.raises(InputError, match="no round may be under way"):
        rotate_key(site, tmp_path / "a.tar")
    (site.state / "attempt.json").unlink()
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(InputError, match="`ARCHIVE` must be a new file"):
        rotate_key(site, tmp_path / "a.tar")
    with site.ledger() as ledger:
        assert ledger.handed_over() == ()


def test_a_rotation_that_was_interrupted_is_finished_by_the_next(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, old = service.site, service.site.key().public
    real = rotation.write_durably

    def killed(path: Path, data: bytes, **options: Any) -> None:
        if path.name == "key":
            raise KeyboardInterrupt
        real(path, data, **options)

    monkeypatch.setattr("palate_server.operation.rotation.write_durably", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate_key(site, tmp_path / "a.tar")
    monkeypatch.undo()
    with site.ledger() as ledger, pytest.raises(IntegrityError, match="handed over to, got another"):
        ledger.log_key(site.key().public)
    done = rotate_key(site, tmp_path / "b.tar")
    assert done.old == old
    assert not (tmp_path / "b.tar").exists(), "the backup was made before"
    with site.ledger() as ledger:
        assert [each.new_key for each in ledger.handed_over()] == [site.key().public]


def test_witnesses_are_told_before(service: Any, tmp_path: Path) -> None:
    site = service.site
    committee = Committee.make(tmp_path / "witnesses", 2)
    with site.ledger() as ledger:
        log = ledger.log_key(site.key().public)
        committee.watch(log)
        asked = Asked(committee, log, site.key())
        asked.shown(ledger)
    told = prepare(site)
    assert told.name == log.name
    assert prepare(site) == told
    committee.watch(told)
    done = rotate_key(site, tmp_path / "a.tar")
    assert done.log == told
    with site.ledger() as ledger:
        shown = replace(asked, log=told, key=site.key()).shown(ledger)
        assert (shown.cosigned or "").count("\u2014") == 3


def test_the_command(service: Any, tmp_path: Path) -> None:
    site, run = service.site, CliRunner()
    old = site.key().public
    made = run.invoke(app, ["serve", "rotate-key", str(site.folder), "--prepare"])
    assert made.stdout.startswith("ledger, for witnesses, from the next release key on: palate/ledger/1/")
    made = run.invoke(app, ["serve", "rotate-key", str(site.folder), str(tmp_path / "a.tar")])
    assert made.exit_code == 0, made.output
    assert f"handed over from {old}" in made.stdout
    assert Site(site.folder).key().public in made.stdout
    invited = run.invoke(app, ["serve", "enroll", str(site.folder)])
    assert f'"former_keys":["{old}"]' in invited.stdout
    assert isinstance(run.invoke(app, ["serve", "rotate-key", str(site.folder)]).exception, InputError)


def test_a_lost_key_is_replaced_on_record_and_no_device_follows(service: Any, tmp_path: Path) -> None:
    site, before = service.site, latest(service.site)
    assert before is not None
    with pytest.raises(InputError, match="hand over instead"):
        replace_lost_key(site)
    first = rotate_key(site, tmp_path / "a.tar")
    spent = read_status(site).mu2_spent
    (site.folder / "key").unlink()
    done = replace_lost_key(site)
    assert (done.old, site.key().public) == (first.new, done.new)
    assert done.published is not None
    assert done.published.model.hash == before.model.hash
    assert read_status(site).mu2_spent == spent
    folder = site.models / digest(done.published.files[published.MANIFEST])
    for key in (first.old, first.new):
        with pytest.raises(IntegrityError, match="signature must be by key"):
            published.read(folder, public_key=key)
    service.operate()  # devices whose app pins the new key
    assert service.events("aborted") == []
    again = rotate_key(site, tmp_path / "b.tar")
    with site.ledger() as ledger:
        assert ledger.first_key(again.new) == done.new
        assert ledger.log_key(again.new).name == done.log.name != first.log.name
    section = audit_ledger(site.folder, public_key=done.new)
    said = {each.test for each in section.findings if each.verdict == "alarm"}
    assert said == {"G published models"}, "those of before the loss are by another key"


def test_a_lost_key_is_replaced_while_no_witness_knows_the_new_ledger(service: Any, tmp_path: Path) -> None:
    """Its ledger is new to witnesses: the key to tell them is printed, and the model waits for them."""
    old, config = service.site.key().public, service.site.config_file
    alone = config.read_text()
    keys, urls = list(Committee.make(tmp_path / "witnesses", 2).keys), ["http://127.0.0.1:1"] * 2
    config.write_text(f"{alone}\n[witnesses]\nkeys = {json.dumps(keys)}\nurls = {json.dumps(urls)}\nneeded = 2\n")
    (service.site.folder / "key").unlink()
    made = CliRunner().invoke(app, ["serve", "rotate-key", str(service.site.folder), "--lost"])
    assert made.exit_code == 0, made.output
    site = Site(service.site.folder)
    new = site.key().public
    with site.ledger() as ledger:
        assert f"ledger, for witnesses: {ledger.log_key(new)}" in made.stdout
    assert "when the server runs and enough witnesses watch" in made.stdout
    found = latest(site)
    assert found is not None
    assert found.manifest.public_key == old, "runs still start from it"
    with pytest.raises(UncosignedError):
        renew(site)
    config.write_text(alone)
    again = renew(Site(site.folder))
    assert again is not None
    assert (again.manifest.public_key, again.model.hash) == (new, found.model.hash)
    assert renew(Site(site.folder)) is None
