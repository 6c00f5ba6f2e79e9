"""What remains of who leaves: a device through several runs of one ledger, and its statement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plans import kept_plan

import palate
from benchmarks.worlds.surveys import MONDAY, Asked
from palate_audit.attacks.ceiling import most_tpr
from palate_client.leaving.erasure import erase_with_statement
from palate_client.leaving.statement import Statement, most_true_positives
from palate_client.ledger.own_ledger import OwnLedger
from palate_client.online.enrolment import Enrolment, keep
from palate_client.rounds.contribution import Contributor
from palate_client.store.journal import EVENTS, Journal, Sent
from palate_common.algorithms import PublicFacts
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.rounds.wire import REFUSED
from palate_common.survey import Survey
from palate_core.accounting import mu_of
from palate_core.errors import ErasedError, InputError, LockedError
from palate_core.log.canonical import digest
from palate_core.log.consistency import SPENT
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_sim.card.card import card_payload, sign_card

LOOSE = palate.Floors(allow_seeded=True, allow_central=True).for_few()
ALS = {"algorithm": "als", "settings": {"rounds": 4, "popularity_only_below": 0, "embedding_size": 4}}
SURVEY = Survey(first_day=MONDAY, channels=("email",), experiments=("new-model",))
NOW = 1_795_824_000.0  # 2026-11-28, when that week is over


@dataclass
class Population:
    """One ledger, one key, and an app's device."""

    make_run: Callable[..., Any]
    home: Path
    first: Any
    device: palate.Device
    service: palate.Service

    @property
    def ledger(self) -> Ledger:
        return self.first.ledger

    def run(self, name: str, **terms: Any) -> Any:
        """A run of the population."""
        run = self.make_run(**{"run": name, **terms})
        run.key, run.ledger, run.folder = self.first.key, self.ledger, self.home / name
        run.folder.mkdir()
        return run

    def round(self, run: Any, coordinator: Any, *, with_device: bool = True, void: bool = False) -> None:
        """One attempt, by simulated devices and, perhaps, the app's; if void, nothing is released of it."""
        plan, model = coordinator.open_attempt(), coordinator.model.data
        users = 1 if run.terms.dp == "local" else 16
        nodes = [] if void else run.nodes(users_per_node=users, clock=lambda: NOW)
        replies = {number: node.answer(plan, model) for number, node in enumerate(nodes)}
        if with_device:
            replies[len(nodes)] = self.device.contribute(plan, model)
            assert replies[len(nodes)] != REFUSED, self.device.refusal
        if not void:
            coordinator.close_attempt(replies)

    def publish(self, run: Any, coordinator: Any) -> Path:
        """Close a run, and publish its model as a server does."""
        name, key = run.terms.run, run.key
        rounds = coordinator.model.header.releases
        closed = {"created": "2026-11-27", "model_hash": coordinator.model.hash, "rounds": rounds, "releases": rounds}
        self.ledger.close_run(name, closed)
        data = sign_card(card_payload(verify_extract(self.ledger.extract(name, key), key.public)), key)
        checkpoint = self.ledger.publish(name, coordinator.model.hash)
        facts = {"run": name, SPENT: self.ledger.spent(), "card": digest(data)}
        return self.write(name, coordinator.model, facts, self.ledger.shown(checkpoint.size), key, data)

    def write(self, name: str, model: Any, facts: dict[str, Any], shown: Any, key: SigningKey, card: bytes) -> Path:
        """Write a published model."""
        catalogue = ItemCatalogue(self.first.items)
        folder = self.home / f"{name}-model"
        published.write(folder, published.pack(model, catalogue, facts, key, population="readers", shown=shown))
        (folder / "privacy_card.json").write_bytes(card)
        return folder

    def trained(self, name: str, **terms: Any) -> Path:
        """A whole run, and its published model."""
        run = self.run(name, **terms)
        with run.lock:
            coordinator = run.coordinator(clock=lambda: NOW)
            while not coordinator.finished:
                self.round(run, coordinator)
            return self.publish(run, coordinator)

    def asked(self) -> None:
        """A week's survey, which the device answers."""
        terms = Asked(epsilon=1.0, dp="central", survey=SURVEY).terms(3, run="week-48")
        run = self.run("week-48")
        run.terms = terms.model_copy(update={"population": "readers"})
        with run.lock:
            coordinator = run.coordinator(clock=lambda: NOW)
            plan, model = coordinator.open_attempt(), coordinator.model.data
            answer = self.device.contribute(plan, model)
            assert answer != REFUSED, self.device.refusal
            coordinator.close_attempt({0: answer})


@pytest.fixture
def population(make_run: Callable[..., Any], open_device: Callable[..., palate.Device], tmp_path: Path) -> Population:
    first = make_run()
    service = palate.Service(public_key=first.key.public, population="readers", floors=LOOSE, epsilon=200.0)
    device = open_device(service=service, clock=lambda: NOW, zone="UTC")
    device.consent.grant("train")
    device.track_many([palate.Event("like", item) for item in first.items[:4]])
    found = Population(make_run, tmp_path, first, device, service)
    start = found.run("start")
    with start.lock:
        model = start.coordinator(clock=lambda: NOW).model
    folder = found.write("start", model, {SPENT: 0.0}, found.ledger.shown(), first.key, b"")
    device.update_model(folder)
    return found


def local() -> dict[str, Any]:
    facts = PublicFacts(n_users=40, n_items=30, mu=mu_of(epsilon=5.0, delta=1e-5), seed=3, local=True)
    return {"dp": "local", "facts": facts, "epsilon": 5.01}


@pytest.fixture
def lived(population: Population) -> Population:
    """A life: a run with a void attempt, one with all noise on devices, a survey, and a log that was shared openly."""
    device = population.device
    for purpose in ("analytics", "panel"):
        device.consent.grant(purpose)  # type: ignore[arg-type]
    device.arm("new-model")
    run = population.run("spring", **ALS)
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)
        population.round(run, coordinator, void=True)
        population.round(run, coordinator)
        population.round(run, coordinator)
        population.publish(run, coordinator)
    population.trained("summer", **local())
    population.asked()
    assert device.open_log().items
    return population


def everything(device: palate.Device) -> list[Any]:
    """All rows of all files of a store."""
    rows: list[Any] = []

    def dump(connection: Any) -> None:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        rows.extend((name, connection.execute(f"SELECT * FROM {name}").fetchall()) for (name,) in names)  # noqa: S608

    with device.store.transaction() as connection:
        dump(connection)
    assert device.service is not None
    with Journal(device.store.file) as journal, OwnLedger(device.store, device.service) as ledger:
        for part in (journal, ledger):
            with part._database.transaction() as connection:
                dump(connection)
    return [sorted(path.name for path in device.store.file.folder.path.iterdir()), rows]


def test_whatever_left_is_in_it(lived: Population) -> None:
    made, report = lived.device.statement(), lived.device.privacy_report()
    charged = [
        (entry.run, entry.round, entry.attempt, entry.plan_hash, entry.mu2)
        for entry in lived.ledger.entries()
        if entry.kind == "charge"
    ]
    assert [(each.run, each.round, each.attempt, each.plan_hash, each.mu2) for each in made.rounds] == charged
    assert [each.run for each in made.rounds] == ["spring"] * 3 + ["summer"] + ["week-48"]
    assert [each.purpose for each in made.rounds] == ["train"] * 4 + ["analytics"]
    assert [each.dp for each in made.rounds] == ["central"] * 3 + ["local", "central"]
    assert all(each.contributed and each.day for each in made.rounds)
    assert report.spending is not None
    assert (made.mu2, made.epsilon) == (report.spending.mu2, report.spending.epsilon)
    assert made.mu2 == pytest.approx(sum(each[-1] for each in charged))
    assert (made.conditions, made.epsilon_alone) == (report.spending.conditions, report.spending.epsilon_alone)
    sent = {each.purpose: (each.contributions, each.messages) for each in made.left}
    assert sent == {"train": (4, 4), "analytics": (1, 1), "panel": (1, 1)}
    assert sum(each.bytes for each in made.left) == sum(each.bytes for each in report.sent)
    text = str(made)
    for words in (
        "unit: user (this installation)",
        "adjacency: zero-out",
        "δ = 1e-06",
        "accountant: palate",
        "if the se",
    ):
        assert words in text
    assert "The server itself saw what left" in text
    assert "handed to the app 1 time(s), without any protection" in text


@pytest.mark.parametrize("mu", [0.0, 0.1, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.1, 0.999999])
def test_bound_rounded_up(mu: float, rate: float) -> None:
    most = most_true_positives(rate, mu=mu, reserved=2.0**-30)
    assert most_tpr(rate, mu=mu) <= most <= min(1.0, most_tpr(rate, mu=mu) + 1e-6)


def test_a_life_under_noise_of_its_own_has_the_bound_whoever_lies(population: Population) -> None:
    population.trained("summer", **local())
    bound = population.device.statement().bounds[0]
    assert bound.alone == bound.true_positives
    text = str(population.device.statement())
    assert "The server itself saw" not in text


def test_nothing_is_kept(lived: Population) -> None:
    before = everything(lived.device)
    lived.device.statement()
    assert everything(lived.device) == before


def test_no_item_and_no_event(lived: Population) -> None:
    made = lived.device.statement()
    rest = made.model_dump(mode="json")
    for item in lived.first.items:
        assert item not in str(made)
        assert f'"{item}"' not in made.to_bytes().decode()
    assert rest["state"].pop("evidence")
    assert lived.device.identity not in str(rest), "a device that is not enrolled is not named"


def test_what_the_server_has_is_named_and_can_be_left_out(population: Population) -> None:
    device = population.device
    names = {"server": "shop.example", "port": 443, "ca": "", "public_key": population.service.public_key}
    keep(device.store, Enrolment(**names, population="readers", device=7))  # type: ignore[arg-type]
    identity = device.identity
    made = device.statement()
    assert made.server is not None
    assert (made.server.server, made.server.device, made.server.identity) == ("shop.example:443", 7, identity)
    assert (made.server.asked, made.server.answered) == (False, False)
    assert "It was not asked to delete anything" in str(made)
    assert "ask the operator to revoke device 7" in str(made)
    assert "secret" not in made.to_bytes().decode()
    other = made.anonymous()
    for text in (str(other), other.to_bytes().decode()):
        assert identity not in text
        assert "shop.example" not in text


def test_where_single_events_are_protected_the_unit_says_so(population: Population) -> None:
    device = population.device
    with OwnLedger(device.store, population.service) as ledger:
        ledger.charge(kept_plan(run="a", mu2=0.04, dp="local"), n_bytes=1, purpose="train")
    with Journal(device.store.file) as journal:
        journal.record(Sent("contribution", EVENTS, "a", 0, 0, 9, NOW))
    made = device.statement()
    assert made.unit.startswith("event")
    assert "whether one item of your history was in" in str(made)


def test_it_can_be_read_again(lived: Population) -> None:
    made = lived.device.statement()
    assert Statement.from_bytes(made.to_bytes()) == made
    for wrong in (b"", b"{}", made.to_bytes() + b" ", made.to_bytes().replace(b'"format":1', b'"format":2')):
        with pytest.raises(InputError, match="a statement must be"):
            Statement.from_bytes(wrong)


def test_an_erasure_returns_it_and_writes_it_where_the_person_chose(lived: Population, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    preview = lived.device.statement()
    made = lived.device.erase(statement=path)
    assert made == preview.model_copy(update={"final": True})
    assert path.read_bytes() == made.to_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in lived.device.store.file.folder.path.iterdir()] == ["lock"]
    with pytest.raises(ErasedError):
        lived.device.statement()


def test_nothing_is_erased_where_it_cannot_be_written(lived: Population, tmp_path: Path) -> None:
    inside = lived.device.store.file.folder.path / "mine.json"
    for path, words in ((tmp_path / "missing" / "mine.json", "can be written"), (inside, "outside of the store")):
        with pytest.raises(InputError, match=words):
            lived.device.erase(statement=path)
    assert list(lived.device.store.events())
    assert lived.device.statement().rounds


def test_what_leaves_meanwhile_is_in_it(population: Population) -> None:
    """Another thread's round ends when the statement is made, and before the key is destroyed."""
    run = population.run("spring")
    device = population.device
    with run.lock:
        coordinator, made = run.coordinator(clock=lambda: NOW), list[Statement]()

        def make() -> Statement:
            made.append(device.statement())
            if len(made) == 1:
                population.round(run, coordinator)
            return made[-1]

        final = erase_with_statement(device.store, make, None)
    assert [len(each.rounds) for each in made] == [0, 1]
    assert final.rounds[0].contributed


def test_an_erasure_gives_up_where_messages_go_on_leaving(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate_client.leaving.erasure.TRIES", 1)
    run, device = population.run("spring"), population.device
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)

        def make() -> Statement:
            made = device.statement()
            population.round(run, coordinator, void=True)
            return made

        with pytest.raises(LockedError, match="go on leaving"):
            erase_with_statement(device.store, make, None)
    assert list(device.store.events())


def test_nothing_leaves_after_it(population: Population, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contribution is made when another thread erases: it is charged, and goes nowhere."""
    run, device = population.run("spring"), population.device
    real, final = Contributor.contribute, list[Statement]()

    def contribute(self: Contributor, plan: bytes, model: bytes) -> bytes:
        answer = real(self, plan, model)
        final.append(device.erase(statement=True))
        return answer

    monkeypatch.setattr(Contributor, "contribute", contribute)
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)
        assert device.contribute(coordinator.open_attempt(), coordinator.model.data) == REFUSED
    assert [each.contributed for each in final[0].rounds] == [False]
    assert "nothing of you left" in str(final[0])
    assert "nothing, as no contribution left" in str(final[0])


def test_what_is_recorded_is_in_the_statement_of_whoever_erases_meanwhile(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, device = population.run("spring"), population.device
    real, final = Journal.record, list[Statement]()
    thread = threading.Thread(target=lambda: final.append(device.erase(statement=True)))

    def record(self: Journal, sent: Sent) -> None:
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "the store was erased before it was recorded what is about to leave"
        real(self, sent)

    monkeypatch.setattr(Journal, "record", record)
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)
        assert device.contribute(coordinator.open_attempt(), coordinator.model.data) != REFUSED, device.refusal
    thread.join(30)
    assert [each.contributed for each in final[0].rounds] == [True]


def test_a_log_that_is_handed_over_is_in_the_statement_of_whoever_erases_meanwhile(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = population.device
    device.consent.grant("panel")
    real, final = Journal.open_log, list[Statement]()
    thread = threading.Thread(target=lambda: final.append(device.erase(statement=True)))

    def open_log(self: Journal, opened: Any) -> None:
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), "the store was erased before it was recorded what is handed over"
        real(self, opened)

    monkeypatch.setattr(Journal, "open_log", open_log)
    with suppress(ErasedError):  # it was recorded, and may be erased before it is handed over
        device.open_log()
    thread.join(30)
    assert [each.contributions for each in final[0].left if each.purpose == "panel"] == [1]


def test_nobody_erases_while_something_is_recorded(population: Population) -> None:
    store, order = population.device.store, list[str]()
    with store.file.there():
        thread = threading.Thread(target=lambda: (store.erase(), order.append("erased")))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        order.append("recorded")
    thread.join(30)
    assert order == ["recorded", "erased"]
    with pytest.raises(ErasedError), store.file.there():
        pass


def test_a_revocation_says_what_stops(lived: Population) -> None:
    device = lived.device
    device.consent.revoke("train")
    device.consent.revoke("panel")
    made = device.statement()
    assert {each.purpose: each.agreed for each in made.left} == {"train": False, "analytics": True, "panel": False}
    text = str(made)
    assert "For training (revoked on 2026-11-28): 4 message(s)" in text
    assert "For sharing openly (revoked on 2026-11-28)" in text
    assert "For surveys (agreed)" in text
    assert "nothing was erased by making it" in text
    run = lived.run("autumn")
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)
        assert device.contribute(coordinator.open_attempt(), coordinator.model.data) == REFUSED
    assert device.statement().rounds == made.rounds


def test_a_run_that_goes_on_is_named_with_what_is_still_to_come(population: Population) -> None:
    run = population.run("spring", **ALS)
    with run.lock:
        coordinator = run.coordinator(clock=lambda: NOW)
        population.round(run, coordinator)
        made = population.device.statement()
        assert made.unfinished_runs == {"spring": (0, 0)}
        assert "its releases from round 0 on are made from what left in rounds 0 to 0, and so is its model" in str(made)
        population.round(run, coordinator, with_device=False)
        population.device.update_model(population.publish(run, coordinator))
    after = population.device.statement()
    assert (after.ended, after.unfinished_runs) == ("spring", {})


def test_of_many_runs_that_may_go_on_the_latest_are_named(population: Population) -> None:
    for number in range(5):
        population.trained(f"run-{number}")
    text = str(population.device.statement())
    assert "2 earlier run(s) aren't known here to be over either" in text
    assert [f"Run run-{number} isn't known" in text for number in range(5)] == [False, False, True, True, True]


def test_a_device_of_no_population_has_one_too(open_device: Callable[..., palate.Device]) -> None:
    device = open_device()
    made = device.statement()
    assert (made.population, made.rounds, made.mu2, made.epsilon) == (None, (), 0.0, 0.0)
    assert isinstance(device.erase(statement=True), Statement)


def test_rounds_are_never_left_out_as_the_service_was_not_named(
    population: Population, open_device: Callable[..., palate.Device]
) -> None:
    population.trained("spring")
    device = open_device(service=None)
    with pytest.raises(InputError, match="`service` must be given"):
        device.erase(statement=True)
    assert list(device.store.events())


def test_a_lost_ledger_leaves_what_the_journal_has(lived: Population) -> None:
    for path in lived.device.store.file.folder.path.glob("*.ledger*"):
        path.unlink()
    made = lived.device.erase(statement=True)
    assert [(each.run, each.contributed, each.mu2) for each in made.rounds][-1] == ("week-48", True, None)
    assert (len(made.rounds), made.mu2, made.epsilon, made.bounds[0].true_positives) == (5, None, None, None)
    assert "Together: not known" in str(made)
