"""Backup, wipe, restore: the same models, a new epoch that devices accept, and a fork that they refuse."""

from __future__ import annotations

import errno
import json
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plans import open_as_device

from palate_audit.run.ledger import audit_ledger
from palate_common.models import published
from palate_common.models.manifest import MANIFEST, SIGNATURE, evidence_of
from palate_common.system import lock_folder
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json
from palate_core.log.consistency import SPENT
from palate_core.plan import SignedPlan
from palate_server.folder.backup import read_backup, write_backup
from palate_server.folder.server_folder import FORMAT, Site, format_of
from palate_server.folder.witness import MODEL, WITNESS, Witness, WitnessError
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import latest, listed, publish, publish_items
from palate_server.operation.terms import budgets_of
from palate_server.service.status import read_status, unpublished
from palate_sim.card.card import card_payload, sign_card

pytestmark = pytest.mark.slow

Maker = Callable[..., Any]


def published_run(service: Any) -> None:
    service.operate()
    with service.site.ledger(read_only=True) as ledger:
        run = unpublished(ledger)
    publish(service.site, run, lambda extract: sign_card(card_payload(extract), service.site.key()))


@pytest.fixture(scope="module")
def shared(make_shared_service: Maker, tmp_path_factory: pytest.TempPathFactory) -> Any:
    service, folder = make_shared_service(every_hours=0.0, dropout=0.13), tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
        published_run(service)
        service.archive, service.witness = folder / "backup.tar", folder / "witness"
        service.backed_up = write_backup(service.site, service.archive)
        service.models = listed(service.site)
        service.operate()
    service.before = read_status(service.site)
    shutil.copytree(service.site.witness, service.witness)
    shutil.rmtree(service.site.folder)
    return service


@pytest.fixture
def lost(make_service: Maker, copy_of: Callable[[Any], Any], shared: Any, tmp_path: Path) -> Any:
    """A service whose machine is lost after a second run; there is a backup from before that, and the witness."""
    service = copy_of(shared)
    service.archive = shutil.copy(shared.archive, tmp_path / "backup.tar")
    service.witness = shutil.copytree(shared.witness, tmp_path / "witness")
    service.backed_up, service.models, service.before = shared.backed_up, shared.models, shared.before
    return service


def restore(service: Any, folder: Path, witness: Path | None, *, started: bool = True) -> str:
    """Restore a service; and let it publish its model again, for which devices come back."""
    said = read_backup(
        service.archive, folder, witnesses=[] if witness is None else [witness], without_witness=witness is None
    )
    service.site = service.devices.site = Site.at(folder)
    if started:
        service.operate()
    return said


def test_the_ledger_goes_on_at_the_highest_witnessed_spend(lost: Any) -> None:
    said = restore(lost, lost.site.folder, lost.witness, started=False)
    assert said.startswith("restored: a new epoch")
    status = read_status(lost.site)
    assert status.epsilon_spent == pytest.approx(lost.before.epsilon_spent)
    assert status.epochs == 1
    assert status.ledger["size"] > lost.backed_up.size
    assert [(version, name) for version, name, _ in listed(lost.site)] == [
        (version, name) for version, name, _ in lost.models
    ], "the same models"


def test_an_audit_of_a_restored_server_raises_no_alarm(lost: Any) -> None:
    """Neither before its first attempt, with a witness of before or none, nor afterwards."""
    restore(lost, lost.site.folder, lost.witness, started=False)
    assert audit_ledger(lost.site.folder).alarms == ()
    lost.operate()
    assert audit_ledger(lost.site.folder).alarms == ()
    shutil.copytree(lost.witness, lost.site.witness, dirs_exist_ok=True)
    assert audit_ledger(lost.site.folder).alarms == ()
    published_run(lost)
    assert audit_ledger(lost.site.folder).alarms == ()


def test_what_is_lost_counts_in_the_period_of_the_restoration(lost: Any) -> None:
    restore(lost, lost.site.folder, lost.witness)
    now = time.time()
    with lost.site.ledger(read_only=True) as ledger:
        lifetime, period = budgets_of(lost.site.config, ledger, now=now)
        assert period.spent == pytest.approx(lifetime.spent), "all of it was in this period"
        assert budgets_of(lost.site.config, ledger, now=period.until + 1)[1].spent == 0.0


def test_devices_accept_the_new_epoch_and_the_next_run_is_made(lost: Any) -> None:
    restore(lost, lost.site.folder, lost.witness)
    rounds = len(lost.events("round"))
    published_run(lost)
    assert all(event["users"] == 8 for event in lost.events("round")[rounds:])
    assert latest(lost.site).version > lost.models[0][0]


def test_what_devices_have_seen_of_models_since_the_latest_charge_is_witnessed_too(
    make_service: Maker, clock: Any, tmp_path: Path
) -> None:
    """Of a run's model, and of one to which items were added: a restored ledger without them would be a fork to them.

    They may have more items than the backup, and would refuse each attempt: it is published again before there is one.
    """
    service = make_service(every_hours=0.0, dropout=0.13, extra='[backup]\nwitness = "../plans"\n')
    published_run(service)
    service.archive = tmp_path / "backup.tar"
    write_backup(service.site, service.archive)
    clock.now += 3600.0
    published_run(service)
    seen = [latest(service.site)]
    (service.site.folder / "items").write_text("".join(f"{item}\n" for item in (*service.site.catalogue.items, "new")))
    seen.append(publish_items(service.site.afresh()))
    assert restore(service, tmp_path / "again", service.site.witness, started=False).startswith("restored: a new epoch")
    assert audit_ledger(service.site.folder).alarms == ()
    clock.now += 3600.0
    service.operate()
    again = latest(service.site)
    assert again.version > seen[-1].version
    assert len(again.items) == 12
    assert service.events("published")[-1]["version"] == again.version
    assert service.devices.home, "who is online has the former model, and comes back for this one first"
    clock.now += 61.0
    service.operate()
    assert [event["reason"] for event in service.events("aborted")] == []
    plan = (service.site.witness / WITNESS).read_bytes()
    for model in seen:
        open_as_device(
            plan,
            public_key=service.site.key().public,
            last_seen=lambda _, model=model: model.manifest.checkpoint,
            evidence=lambda _, model=model: evidence_of(model.files),
            accept=lambda _: None,
            pinned=None,
        )


def test_a_charge_is_witnessed_alone_so_that_nothing_says_that_less_was_spent(
    make_service: Maker, tmp_path: Path
) -> None:
    service = make_service(extra='[backup]\nwitness = "../plans"\n')
    write_backup(service.site, tmp_path / "backup.tar")
    start = (service.site.witness / MODEL).read_bytes()
    service.operate()
    assert [path.name for path in service.site.witness.iterdir()] == [WITNESS]
    shown = {MANIFEST: b"{}", SIGNATURE: b""}
    Witness(service.site.witness).show(shown)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.folder.witness.write_durably", full)
        with pytest.raises(WitnessError, match="the attempt is void"):
            Witness(service.site.witness).write(b"plan")
    assert (service.site.witness / MODEL).read_bytes() == evidence_of(shown), "no device has seen that plan"
    (service.site.witness / MODEL).write_bytes(start)  # by hand: the plan beside it is later
    asked = {"witnesses": [service.site.witness], "without_witness": False}
    assert read_backup(tmp_path / "backup.tar", tmp_path / "new", **asked).startswith("restored: a new epoch")
    assert read_status(Site.at(tmp_path / "new")).mu2_spent >= read_status(service.site).mu2_spent > 0
    for data in (b"{}", start[:-9], start.replace(b'"spent_mu2":0', b'"spent_mu2":1')):
        (service.site.witness / MODEL).write_bytes(data)
        with pytest.raises(PalateError):
            read_backup(tmp_path / "backup.tar", tmp_path / "other", **asked)


def test_a_device_that_was_away_for_two_restorations_comes_back(lost: Any, tmp_path: Path) -> None:
    """It saw a charge that the first one lost, and none since; others saw charges that the second one lost."""
    witnesses = [lost.witness]
    for number in range(2):
        restore(lost, tmp_path / f"site-{number}", witnesses[-1])
        if number == 0:
            lost.archive = tmp_path / "again.tar"
            write_backup(lost.site, lost.archive)
            lost.operate()
            witnesses.append(shutil.copytree(lost.site.witness, tmp_path / "later"))
    published_run(lost)
    assert lost.events("round")
    latest_plan = (lost.site.witness / WITNESS).read_bytes()
    for folder in witnesses:
        seen = (folder / WITNESS).read_bytes()
        charge = SignedPlan.model_validate_json(seen).charge
        assert charge is not None
        last = charge.checkpoint
        asked = {"public_key": lost.site.key().public, "last_seen": lambda _, last=last: last}
        assert len(open_as_device(latest_plan, evidence=lambda _, seen=seen: seen, **asked).charge.epochs) == 2
        with pytest.raises(IntegrityError, match="has forgotten some"):
            open_as_device(latest_plan, evidence=lambda _: None, **asked)


def test_devices_refuse_a_fork(lost: Any, tmp_path: Path) -> None:
    """Two servers from one backup: whoever has seen the one refuses the other."""
    restore(lost, tmp_path / "one", lost.witness)
    lost.operate()
    assert lost.events("round")
    restore(lost, tmp_path / "two", lost.witness)
    lost.operate()
    assert not lost.events("round")
    assert {event["reason"] for event in lost.events("aborted")} == {"refused"}


def test_without_a_witness_the_whole_budget_counts_as_spent(lost: Any) -> None:
    restore(lost, lost.site.folder, None)
    status = read_status(lost.site)
    assert status.epsilon_left == 0
    opened = len(lost.events("opened"))
    lost.operate(2)
    assert len(lost.events("opened")) == opened
    assert lost.events("refused")[-1]["reason"].startswith("the lifetime budget")


def test_a_backup_that_lost_nothing_needs_no_new_epoch(make_service: Maker, tmp_path: Path) -> None:
    service = make_service()
    published_run(service)
    service.archive = tmp_path / "backup.tar"
    write_backup(service.site, service.archive)
    witness = tmp_path / "witness"
    shutil.copytree(service.site.witness, witness)
    before = read_status(service.site)
    shutil.rmtree(service.site.folder)
    assert "all that was witnessed" in restore(service, service.site.folder, witness, started=False)
    assert replace(read_status(service.site), sizes={}) == replace(before, sizes={})


def test_a_folder_that_was_lost_before_the_first_charge_is_restored_with_all_of_its_budget(
    make_service: Maker, tmp_path: Path
) -> None:
    """The witness folder says what was published and that nothing was spent, until something is."""
    service = make_service(extra='[backup]\nwitness = "../plans"\n')
    early, late = tmp_path / "early.tar", tmp_path / "late.tar"
    write_backup(service.site, early)
    (service.site.folder / "items").write_text("".join(f"{item}\n" for item in (*service.site.catalogue.items, "new")))
    assert publish_items(service.site.afresh()) is not None
    write_backup(service.site, late)
    for archive, told in ((late, "the backup has all that was witnessed"), (early, "1 entry is lost")):
        said = read_backup(archive, tmp_path / "new", witnesses=[service.site.witness], without_witness=False)
        found = Site.at(tmp_path / "new")
        assert told in said
        assert (read_status(found).mu2_spent, read_status(found).attempts) == (0.0, 0)
        assert format_of(found.folder) == FORMAT
        shutil.rmtree(tmp_path / "new")
    service.site = service.devices.site = Site.at(service.site.folder)
    service.devices.histories = replace(service.devices.histories, n_items=13)
    service.operate()
    assert service.events("round")
    assert [path.name for path in service.site.witness.iterdir()] == [WITNESS], (
        "nothing says any more that it was nothing"
    )
    (service.site.witness / WITNESS).unlink()
    with pytest.raises(InputError, match="must hold a signed plan"):
        read_backup(late, tmp_path / "new", witnesses=[service.site.witness], without_witness=False)


def test_a_run_that_was_open_is_not_gone_on_with(make_service: Maker, tmp_path: Path) -> None:
    """What it has released since is lost: a second release for one charge must not come of it."""
    service = make_service(every_hours=0.0)
    archive = tmp_path / "backup.tar"

    def copy(coordinator: Any) -> None:
        if coordinator.round == 1 and not archive.exists():
            write_backup(service.site, archive)

    service.devices.before = copy
    service.operate()
    run = service.events("opened")[0]["run"]
    witness = tmp_path / "witness"
    shutil.copytree(service.site.witness, witness)
    service.archive = archive
    restore(service, tmp_path / "again", witness)
    assert read_status(service.site).runs[run] == "lost"
    service.operate()
    assert service.events("opened")[-1]["run"] != run


def test_what_is_restored_must_be_witnessed_or_said_not_to_be(lost: Any, tmp_path: Path) -> None:
    for witnesses, without in (([], False), ([lost.witness], True)):
        with pytest.raises(InputError, match="--witness"):
            read_backup(lost.archive, tmp_path / "new", witnesses=witnesses, without_witness=without)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="must hold a signed plan"):
        read_backup(lost.archive, tmp_path / "new", witnesses=[empty], without_witness=False)
    assert not (tmp_path / "new").exists(), "nothing half-written"


def test_a_witness_that_somebody_else_signed_is_refused(lost: Any, make_service: Maker, tmp_path: Path) -> None:
    other = make_service("other")
    other.operate()
    with pytest.raises(IntegrityError):
        read_backup(lost.archive, tmp_path / "new", witnesses=[other.site.witness], without_witness=False)


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    archive, secret = tmp_path / "bad.tar", tmp_path / "secret"
    secret.write_text("x")
    with tarfile.open(archive, "w") as tar:
        tar.add(secret, arcname="../escaped")
    with pytest.raises(InputError, match="`ARCHIVE` must be"):
        read_backup(archive, tmp_path / "new", witnesses=[], without_witness=True)
    assert not (tmp_path / "escaped").exists()


def test_nothing_is_published_between_two_copies_of_a_backup(
    make_service: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with the models of one list of items, and another list, would train nobody."""
    service, copy, tried = make_service(), Ledger.copy, []

    def meanwhile(ledger: Ledger, file: Path) -> None:
        with pytest.raises(OSError):  # noqa: PT011 - each system has its own
            lock_folder(service.site.folder, wait=False)
        tried.append(file)
        copy(ledger, file)

    monkeypatch.setattr(Ledger, "copy", meanwhile)
    write_backup(service.site, tmp_path / "backup.tar")
    assert tried


def test_a_backup_is_its_owners_alone(make_service: Maker, tmp_path: Path) -> None:
    service = make_service()
    archive = tmp_path / "backup.tar"
    write_backup(service.site, archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="new file"):
        write_backup(service.site, archive)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def without_spend(models: Path, site: Site) -> None:
    """Sign the models as earlier versions did, which did not say what was spent."""
    for folder in filter(Path.is_dir, models.iterdir()):
        manifest = json.loads((folder / published.MANIFEST).read_bytes())
        del manifest[SPENT], manifest["publication"]
        payload = canonical_json({**manifest, "format": 2})
        (folder / published.MANIFEST).write_bytes(payload)
        (folder / published.SIGNATURE).write_text(site.key().sign(published.MANIFEST_TAG, payload))


def test_a_model_is_a_witness_of_what_was_spent_and_beside_an_older_plan_the_higher_spend_counts(
    lost: Any, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    restore(lost, tmp_path / "one", lost.witness)
    published_run(lost)
    spent = read_status(lost.site).epsilon_spent
    shutil.copytree(lost.site.models, models)
    for name, witnesses in (("two", [models]), ("three", [lost.witness, models])):
        said = read_backup(lost.archive, tmp_path / name, witnesses=witnesses, without_witness=False)
        assert said.startswith("restored: a new epoch")
        assert read_status(Site.at(tmp_path / name)).epsilon_spent == pytest.approx(spent)


def test_a_model_that_does_not_say_what_was_spent_is_no_witness(lost: Any, tmp_path: Path) -> None:
    """It shows how long the log was, and nothing of what was charged since the plan: that would be forgotten."""
    models = tmp_path / "models"
    restore(lost, tmp_path / "one", lost.witness)
    published_run(lost)
    shutil.copytree(lost.site.models, models)
    without_spend(models, lost.site)
    for witnesses in ([models], [lost.witness, models]):
        with pytest.raises(InputError, match="must show what was spent"):
            read_backup(lost.archive, tmp_path / "two", witnesses=witnesses, without_witness=False)


def test_witnesses_of_two_ledgers_are_a_fork(lost: Any, tmp_path: Path) -> None:
    models = []
    for name in ("one", "two"):
        restore(lost, tmp_path / name, lost.witness)
        with lost.site.ledger() as ledger:
            ledger.open_run(name, {})
        publish(lost.site, lost.models[0][2]["run"], lambda extract: b"card")
        models.append(lost.site.models)
    with pytest.raises(IntegrityError, match=r"got two of the size \d+: forked"):
        read_backup(lost.archive, tmp_path / "three", witnesses=models, without_witness=False)
