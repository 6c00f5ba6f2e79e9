"""A device with a server: models are whole and never older, rounds are charged first, and the report says all of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.ledger import own_ledger
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.rounds import contribution, participation
from palate_client.rounds.contribution import Contributor
from palate_client.store.journal import Journal
from palate_client.store.store import EventStore
from palate_common.algorithms import PublicFacts
from palate_common.algorithms.popularity import Popularity
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED, decode
from palate_core.device import participation as core_participation
from palate_core.device.ledger import DeviceLedger
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.plan import SignedPlan
from palate_server.ledger.ledger import Ledger
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

OpenDevice = Callable[..., palate.Device]
LOOSE = palate.Floors(allow_seeded=True, allow_central=True)


@dataclass
class Pair:
    """A server's run and one device that knows it."""

    run: Any
    open: OpenDevice
    folder: Path

    def service(self, **changes: Any) -> palate.Service:
        fields = {"public_key": self.run.key.public, "population": "readers", "floors": LOOSE, "epsilon": 50.0}
        return palate.Service(**{**fields, **changes})

    def device(self, *, consents: tuple[str, ...] = ("train",), **changes: Any) -> palate.Device:
        device = self.open(service=self.service(**changes))
        for purpose in consents:
            if not device.consent.get(purpose):  # type: ignore[arg-type]  # names of purposes
                device.consent.grant(purpose)  # type: ignore[arg-type]
        return device

    def ready(self, **changes: Any) -> palate.Device:
        """A device with a model and some events."""
        device = self.device(**changes)
        device.update_model(self.publish())
        device.track_many([palate.Event("like", f"item-{row}") for row in (0, 2, 5)])
        return device

    def publish(self, **changes: Any) -> Path:
        """Publish the run's model as it is, with changes, into a folder."""
        run = self.run
        place = {"population": "readers", "shown": run.ledger.shown(), **changes}
        model = place.pop("model", None) or run.coordinator().model
        catalogue = place.pop("catalogue", None) or ItemCatalogue(run.items)
        key = place.pop("key", run.key)
        published.write(self.folder, published.pack(model, catalogue, {}, key, **place))
        return self.folder


@pytest.fixture
def folder(memory: Path) -> Path:
    """Where the store is."""
    return memory / "palate"


@pytest.fixture
def pair(make_run: Callable[..., Any], open_device: OpenDevice, tmp_path: Path) -> Pair:
    return Pair(make_run(), open_device, tmp_path / "download")


LOG = MerkleTree(bytes([seq]) for seq in range(9))


def at(size: int) -> Shown:
    """A state of one log, with proofs."""
    return Shown.of(LOG, size, since=range(1, size))


def test_a_model_is_taken_into_use_and_is_there_after_a_restart(pair: Pair) -> None:
    device = pair.device()
    assert device.model() is None
    assert device.update_model(pair.publish())
    assert not device.update_model(pair.folder)
    shutil.rmtree(pair.folder)
    device.close()
    found = pair.device().model()
    assert found is not None
    assert found.items == pair.run.items
    assert found.domains is None
    assert found.model.header == pair.run.coordinator().model.header


def test_a_model_in_use_is_none_to_refuse_whatever_a_plan_has_shown_since(pair: Pair) -> None:
    device = pair.device()
    assert device.update_model(pair.publish())
    with OwnLedger(device.store, device.service) as ledger:
        ledger.see(
            "readers", Checkpoint(99, "ab" * 32), after=ledger.seen_checkpoint("readers")
        )  # without what would prove that it extends another
    assert not device.update_model(pair.folder)
    assert device.privacy_report().refusals == ()


def hostile(pair: Pair) -> dict[str, Callable[[], object]]:
    """What a server, or whoever stands between, may put into the folder."""

    def truncate() -> None:
        forge({"counts": np.full(30, 2, np.float32)})
        with (pair.folder / published.COMPACT).open("r+b") as file:
            file.truncate(10**10)

    def forge(state: dict[str, Any]) -> None:
        """A signed model with another state."""
        model = pair.run.coordinator().model
        with np.errstate(invalid="ignore"):
            pair.publish(shown=at(9), model=type(model)(model.header, state))

    return {
        "not a number": lambda: forge({"counts": np.full(30, np.nan, np.float32)}),
        "another of the same version": lambda: pair.publish(
            shown=at(5), catalogue=ItemCatalogue(pair.run.items, domains=("x",) * 30)
        ),
        "another population": lambda: pair.publish(shown=at(9), population="viewers"),
        "ten gigabytes": truncate,
        "not there": lambda: shutil.rmtree(pair.folder),
    }


@pytest.mark.parametrize(
    "attack", ["not a number", "another of the same version", "another population", "ten gigabytes", "not there"]
)
def test_what_a_hostile_server_publishes_is_refused_and_the_old_model_stays(pair: Pair, attack: str) -> None:
    device = pair.device()
    device.update_model(pair.publish(shown=at(5)))
    before = device.model()
    assert before is not None
    hostile(pair)[attack]()
    with pytest.raises((IntegrityError, RefusedError)) as caught:
        device.update_model(pair.folder)
    device.close()
    again = pair.device()
    after = again.model()
    assert after is not None
    assert after.manifest == before.manifest
    assert [model.version for model in again.privacy_report().models] == [5]
    (refusal,) = again.privacy_report().refusals
    assert (refusal.what, refusal.reason) == ("model", str(caught.value))


def test_a_model_of_the_ledgers_size_with_another_root_proves_a_fork(pair: Pair) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    assert device.contribute(plan, model) != REFUSED, device.refusal
    charge = SignedPlan.model_validate_json(plan).charge
    assert charge is not None
    pair.publish(shown=Shown(checkpoint=Checkpoint(charge.checkpoint.size, "ee" * 32)))
    with pytest.raises(IntegrityError, match="forked"):
        device.update_model(pair.folder)


def test_a_plan_of_a_models_size_with_another_root_proves_a_fork(pair: Pair) -> None:
    device = pair.device()
    plan, model = pair.run.first()
    charge = SignedPlan.model_validate_json(plan).charge
    assert charge is not None
    device.update_model(pair.publish(shown=Shown(checkpoint=Checkpoint(charge.checkpoint.size, "ee" * 32))))
    assert device.contribute(plan, model) == REFUSED
    assert "forked" in device.refusal
    assert device.privacy_report().spending.participations == 0  # type: ignore[union-attr]


def test_a_device_contributes_what_a_simulated_user_with_its_events_does(pair: Pair) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    answer = device.contribute(plan, model)
    user = Interactions.from_pairs([0] * 3, [0, 2, 5], n_users=1, n_items=30)
    with SimulatedLedger(":memory:") as ledger:
        simulated = Contributor(user, [0], ledger, pair.run.key.public, LOOSE, pinned=None)
        assert answer == simulated.answer(plan, model)
    assert decode(answer, grid=2**14).header.users == 1


def test_a_device_takes_part_in_a_real_round_beside_simulated_ones(pair: Pair) -> None:
    device, run = pair.ready(), pair.run
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    replies = {number: node.answer(plan, model) for number, node in enumerate(run.nodes())}
    replies[len(replies)] = device.contribute(plan, model)
    released = coordinator.close_attempt(replies)
    assert released.participation.users == 41
    assert device.update_model(run.publish(coordinator))
    found = device.model()
    assert found is not None
    assert found.model.header.releases == 1
    report = device.privacy_report()
    assert [model.version for model in report.models] == sorted({model.version for model in report.models})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"public_key": "ab" * 32}, "signature"),
        ({"population": "viewers"}, "population"),
        ({"epsilon": 0.5}, "limit of its own"),
        ({"participations": 0}, "limit of its own"),
        ({"floors": palate.Floors(allow_central=True)}, "seeded"),
        ({"floors": palate.Floors(allow_seeded=True, allow_central=True, min_cohort=100)}, "cohort_floor"),
        ({"floors": palate.Floors(allow_seeded=True, allow_central=True, min_sigma=10**9)}, "sigma"),
        ({"most_bytes": 10}, "at most 10 bytes"),
    ],
)
def test_a_refusal_tells_the_user_why_and_the_server_nothing(pair: Pair, changes: dict[str, Any], said: str) -> None:
    pair.ready().close()
    device = pair.device(**changes)
    answer = device.contribute(*pair.run.first())
    assert answer == REFUSED
    report = device.privacy_report()
    assert said in device.refusal
    assert report.refusals[-1].reason == device.refusal
    assert (report.sent, report.spending.participations) == ((), 0)  # type: ignore[union-attr]


def test_without_consent_to_train_nothing_is_looked_at(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    device = pair.ready(consents=())
    monkeypatch.setattr(core_participation, "open_plan", lambda *_, **__: pytest.fail("looked at the plan"))
    assert device.contribute(*pair.run.first()) == REFUSED
    assert "not agreed" in device.refusal


def test_a_device_without_a_model_or_with_another_catalogue_refuses(pair: Pair) -> None:
    device = pair.device()
    plan, model = pair.run.first()
    assert device.contribute(plan, model) == REFUSED
    assert "no model yet" in device.refusal
    other = pair.run.coordinator().model
    items = tuple(f"other-{row}" for row in range(30))
    header = other.header.model_copy(update={"catalogue": ItemCatalogue(items).hash})
    device.update_model(pair.publish(model=type(other)(header, other.state), catalogue=ItemCatalogue(items)))
    assert device.contribute(plan, model) == REFUSED
    assert "catalogue" in device.refusal


def test_the_charge_is_on_the_disk_before_anything_is_computed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    device = pair.ready()
    order: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (order.append(name), original(*a, **k))[1])

    for owner, name in (
        (core_participation, "open_plan"),
        (core_participation, "check_floors"),
        (DeviceLedger, "charge"),
        (participation.OwnHistory, "users"),
        (Popularity, "contribute"),
        (contribution, "clip"),
        (Journal, "record"),
    ):
        watch(owner, name)
    assert device.contribute(*pair.run.first()) != REFUSED
    assert order == ["open_plan", "check_floors", "charge", "users", "contribute", "clip", "record"]


def test_what_cannot_be_noted_does_not_leave(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    device = pair.ready()

    def fails(*_: Any) -> None:
        raise PalateError("the disk is full")

    monkeypatch.setattr(Journal, "record", fails)
    assert device.contribute(*pair.run.first()) == REFUSED
    monkeypatch.undo()
    report = device.privacy_report()
    assert (len(report.sent), report.spending.participations) == (0, 1)  # type: ignore[union-attr]


def test_an_attempt_is_answered_once_also_after_a_restart(pair: Pair) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    assert device.contribute(plan, model) != REFUSED
    device.close()
    again = pair.device()
    assert again.contribute(plan, model) == REFUSED
    assert "above every earlier one" in again.refusal


def test_the_users_limit_holds_over_all_rounds(pair: Pair) -> None:
    plan, model = pair.run.first()
    cost = SignedPlan.model_validate_json(plan).plan.mu2
    service = pair.service()
    limit = next(eps for eps in np.arange(1, 60, 0.5) if pair.service(epsilon=float(eps)).limit_mu2 > 2.5 * cost)
    device = pair.ready(epsilon=float(limit))
    answers = []
    for _ in range(4):
        answers.append(device.contribute(plan, model) != REFUSED)
        plan = pair.run.altered(plan)
    assert answers == [True, True, False, False]
    spending = device.privacy_report().spending
    assert spending is not None
    assert spending.epsilon is not None
    assert spending.epsilon == service.epsilon_of(2 * cost)
    assert spending.epsilon <= limit
    assert spending.remaining == limit - spending.epsilon


def test_the_report_is_what_the_ledger_says(pair: Pair) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    answer = device.contribute(plan, model)
    opened = SignedPlan.model_validate_json(plan).plan
    report = device.privacy_report()
    spending = report.spending
    assert spending is not None
    (receipt,) = spending.receipts
    assert (receipt.plan_hash, receipt.mu2, spending.mu2) == (opened.hash, opened.mu2, opened.mu2)
    assert spending.seen == SignedPlan.model_validate_json(plan).charge.checkpoint  # type: ignore[union-attr]
    (sent,) = report.sent
    assert (sent.what, sent.dp, sent.run, sent.bytes) == ("contribution", "central", "run-1", len(answer))
    assert report.simulated == ("noise from a seed is accepted",)
    said = json.loads(json.dumps(report.as_dict()))
    assert said["spending"]["epsilon"] == spending.epsilon
    assert {"unit", "adjacency", "accountant"} <= set(said)
    assert said["consents"] == {"store": True, "train": True, "analytics": False, "messaging": False, "panel": False}
    assert said["spending"]["seen"] == {"size": spending.seen.size, "root": spending.seen.root}  # type: ignore[union-attr]
    text = str(report)
    assert f"{spending.seen.size}:{spending.seen.root}" in text  # type: ignore[union-attr]
    for part in ("SIMULATED", "ε =", "δ = 1e-06", "unit: user", "zero-out", "palate closed form", f"{len(answer):,} b"):
        assert part in text
    kinds = [json.loads(line).get("type") for line in device.export_lines()]
    assert {"sent", "model", "participation"} <= set(kinds)


def test_a_device_without_a_service_says_so(device: palate.Device, tmp_path: Path) -> None:
    report = device.privacy_report()
    assert (report.spending, report.sent, report.models) == (None, (), ())
    assert "no server" in str(report)
    with pytest.raises(palate.InputError, match="service"):
        device.update_model(tmp_path)
    device.export(tmp_path / "mine.jsonl")
    assert device.import_jsonl(tmp_path / "mine.jsonl").problems == ()


def test_an_export_with_rounds_can_be_imported(pair: Pair, tmp_path: Path) -> None:
    device = pair.ready()
    device.contribute(*pair.run.first())
    device.contribute(b"", b"")
    device.export(tmp_path / "mine.jsonl")
    found = device.import_jsonl(tmp_path / "mine.jsonl")
    assert (found.problems, found.duplicates) == ((), 3)


@pytest.mark.parametrize("how", ["missing", "empty", "older"])
def test_nobody_restores_an_older_copy_of_the_ledger_and_takes_part(
    pair: Pair, folder: Path, tmp_path: Path, how: str
) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    assert device.contribute(plan, model) != REFUSED
    device.close()
    (ledger,) = folder.glob("*.ledger")
    older = ledger.read_bytes()
    device = pair.device()
    plan = pair.run.altered(plan)
    assert device.contribute(plan, model) != REFUSED
    device.close()
    if how == "missing":
        ledger.unlink()
    else:
        ledger.write_bytes(older if how == "older" else b"")
    device = pair.device()
    assert device.contribute(pair.run.altered(plan), model) == REFUSED
    assert "must have the 2 charges that were made, got" in device.refusal
    report = device.privacy_report()
    assert (report.spending, len(report.sent)) == (None, 2)
    assert report.problem == device.refusal
    assert f"Spent: not known. {report.problem}" in str(report)
    assert len(list(device.store.events())) == 3
    assert device.export(tmp_path / "mine.jsonl")
    assert device.import_jsonl(tmp_path / "mine.jsonl").problems == ()
    palate.erase(folder)  # the way on
    assert pair.device().privacy_report().spending.participations == 0  # type: ignore[union-attr]


def test_nothing_is_computed_of_a_charge_that_the_store_does_not_know_of(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = pair.ready()

    def full(*_: Any) -> None:
        raise PalateError("the disk is full")

    monkeypatch.setattr(own_ledger, "know_charges", full)
    monkeypatch.setattr(participation.OwnHistory, "users", lambda *_: pytest.fail("read the user's history"))
    assert device.contribute(*pair.run.first()) == REFUSED
    assert device.refusal == "the disk is full"


def test_how_many_charges_there_are_is_on_the_disk_before_anything_is_computed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut that took the number back would let an older ledger pass for the whole one."""
    device, seen = pair.ready(), list[int]()
    real = own_ledger.know_charges

    def know(store: EventStore, count: int) -> None:
        transaction = store.file.open().transaction

        @contextmanager
        def noting(*, write: bool) -> Iterator[sqlite3.Connection]:
            with transaction(write=write) as connection:
                seen.append(connection.execute("PRAGMA synchronous").fetchone()[0])
                yield connection

        with monkeypatch.context() as patched:
            patched.setattr(store.file.open(), "transaction", noting)
            real(store, count)

    monkeypatch.setattr(own_ledger, "know_charges", know)
    assert device.contribute(*pair.run.first()) != REFUSED
    assert seen == [2]  # FULL: the commit waits for the disk


@pytest.mark.parametrize("limit", [{"participations": 1}, {"epsilon": 0.01}])
def test_one_limit_of_the_user_is_enough_to_end_taking_part(pair: Pair, limit: dict[str, Any]) -> None:
    device = pair.ready()
    assert device.contribute(*pair.run.first()) != REFUSED
    assert not device.rounds.at_limit()
    assert replace(device.rounds, service=pair.service(**limit)).at_limit()


def test_nothing_beside_the_store_can_be_read_without_its_key_and_all_of_it_is_erased(pair: Pair, folder: Path) -> None:
    device = pair.ready()
    device.contribute(*pair.run.first())
    device.close()
    for path in folder.iterdir():
        data = path.read_bytes()
        for mark in (b"item-0", b"readers", b"run-1", b"PRIVATE KEY", b"SQLite format"):
            assert path.name == "lock" or mark not in data, path
    assert {path.suffix for path in folder.iterdir()} >= {".db", ".journal", ".ledger"}
    again = pair.device()
    again.privacy_report()
    again.erase()
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_an_erased_store_takes_no_part_in_another_process(pair: Pair) -> None:
    device, other = pair.ready(), pair.device()
    other.erase()
    assert device.contribute(*pair.run.first()) == REFUSED
    assert "erased" in device.refusal


def test_the_answers_size_does_not_depend_on_what_the_user_did(pair: Pair) -> None:
    device = pair.ready()
    plan, model = pair.run.first()
    first = device.contribute(plan, model)
    device.track_many([palate.Event("like", f"item-{row}") for row in range(30)])
    later = device.contribute(pair.run.altered(plan), model)
    assert len(first) == len(later)


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": "x"},
        {"public_key": b"ab" * 32},
        {"population": ""},
        {"epsilon": 0},
        {"epsilon": float("nan")},
        {"delta": 1e-30},
        {"delta": 2.0},
        {"participations": -1},
        {"participations": True},
        {"most_bytes": 0.5},
    ],
)
def test_a_service_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(palate.InputError):
        palate.Service(**{"public_key": "ab" * 32, "population": "readers", **changes})


@pytest.mark.parametrize("unit", ["user", "event"])
def test_a_device_that_trusts_nobody_adds_all_noise_and_its_report_names_the_unit(
    make_run: Callable[..., Any], open_device: OpenDevice, tmp_path: Path, unit: str
) -> None:
    facts = PublicFacts(n_users=40, n_items=30, mu=1.0, seed=3, local=True)
    terms: dict[str, Any] = {"dp": "local", "facts": facts, "epsilon": 5.02}
    if unit == "event":
        terms |= {"algorithm": "event-mf", "settings": {"embedding_size": 4}, "events": 1.0}
    run = make_run(**terms)
    run.ledger = Ledger(":memory:", population="readers", unit=unit)
    floors = palate.Floors(allow_seeded=True, allow_distributed=False, allow_events=True)
    device = Pair(run, open_device, tmp_path / "download").ready(floors=floors)
    plan, model = run.first()
    assert device.contribute(plan, model) not in (REFUSED, b"")
    report = device.privacy_report()
    assert [sent.dp for sent in report.sent] == ["local" if unit == "user" else "local, events"]
    assert report.as_dict()["unit"].startswith(unit)
    assert "all of its noise was added here" in str(report)
    assert f"unit: {unit}" in str(report)


def test_delta_is_kept_for_every_round_that_a_device_may_take_part_in() -> None:
    """Each round may fail with 2^-40: more rounds than usual leave less to the noise, and in the end nothing."""
    made = {"public_key": "ab" * 32, "population": "readers", "delta": 1e-6}
    usual, many = palate.Service(**made), palate.Service(**made, participations=2**19)
    assert usual.noise_delta == 1e-6 - 2**10 * 2.0**-40
    assert many.noise_delta == 1e-6 - 2**19 * 2.0**-40
    assert many.limit_mu2 < usual.limit_mu2
    with pytest.raises(InputError, match=r"`delta` must be above 1\.9e-06"):
        palate.Service(**made, participations=2**21)
