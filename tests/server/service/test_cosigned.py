"""A server whose ledger witnesses cosign: each charge before its plan leaves, each model before it is published."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from plans import open_as_device
from witnessed import Running, end, free_port, start

from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json
from palate_core.log.checkpoints import LogState, origin_of, read_state, sign_checkpoint
from palate_core.log.consistency import SPENT, check_growth, check_pinned
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import Note, Signature, read_note
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.plan import SignedPlan
from palate_server.folder.backup import read_backup, write_backup
from palate_server.folder.server_folder import COSIGNED, Site, read_cosigned
from palate_server.folder.witness import WITNESS, Witness
from palate_server.ledger.mirror import Mirror
from palate_server.ledger.witnesses import UncosignedError
from palate_server.operation.operation import Operation
from palate_server.operation.outlook import read_outlook
from palate_server.operation.releases import latest, publish, renew, unwritten
from palate_server.service.status import read_status, unpublished
from palate_server.service.supervisor import Supervisor
from palate_server.witness.folder import WitnessConfig, WitnessFolder

pytestmark = pytest.mark.slow
Maker = Callable[..., Any]


@dataclass
class Three:
    """Three witnesses as processes; a server asks for two."""

    folders: list[WitnessFolder]
    running: dict[int, Running] = field(default_factory=dict)

    @property
    def extra(self) -> str:
        keys = [str(folder.verifier_key) for folder in self.folders]
        urls = [f"http://127.0.0.1:{folder.config.port}" for folder in self.folders]
        return f"[witnesses]\nkeys = {json.dumps(keys)}\nurls = {json.dumps(urls)}\nneeded = 2\nseconds = 20\n"

    def pinned(self, site: Site) -> Pinned:
        keys = [str(folder.verifier_key) for folder in self.folders]
        return Pinned.of("readers", site.key().public, keys, needed=2)

    def watch(self, site: Site) -> None:
        with site.ledger() as ledger:
            log = ledger.log_key(site.key().public)
        for folder in self.folders:
            folder.add(log, origin=log.name)

    def up(self, *places: int) -> None:
        for place in places:
            self.running[place] = start(self.folders[place])

    def down(self, *places: int) -> None:
        for place in places:
            end(self.running.pop(place))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    made = Three(
        [
            WitnessFolder.make(
                tmp_path / f"w{place}",
                WitnessConfig(name=f"w{place}.example/palate", port=free_port(), per_second=1e4),
            )
            for place in range(3)
        ]
    )
    with ExitStack() as stack:
        stack.callback(lambda: [end(each) for each in made.running.values()])
        yield made


@pytest.fixture
def service(make_service: Maker, three: Three) -> Any:
    made = make_service(extra=three.extra)
    three.watch(made.site)
    return made


def test_plans_and_models_carry_the_cosignatures_of_a_quorum(service: Any, three: Three) -> None:
    three.up(0, 2)  # one is down all the time
    site, pinned = service.site, three.pinned(service.site)
    renewed = renew(site)
    assert renewed is not None
    assert renew(site) is None
    with site.ledger() as ledger:
        assert [entry.kind for entry in ledger.entries()][-2:] == ["witnesses", "publish"]
    service.operate()
    rounds = service.events("round")
    assert rounds
    assert service.events("aborted") == []
    data = (site.witness / WITNESS).read_bytes()
    signed = open_as_device(data, public_key=site.key().public, last_seen=lambda _: None, pinned=pinned)
    assert signed.charge is not None
    assert signed.charge.cosigned is not None
    with site.ledger() as ledger:
        run = unpublished(ledger)
    found = publish(site, str(run), lambda extract: b"{}")
    assert (found.manifest.format, found.manifest.publication is not None) == (4, True)
    assert len(pinned.check("model", found.manifest.checkpoint, found.manifest.cosigned)) == 2
    told = read_status(site).witnesses
    assert (told["needed"], told["size"]) == (2, found.version)
    assert told["log"] == str(pinned.log(site.key().public))
    mirrored = read_note((site.mirror / "checkpoint").read_bytes())
    assert len(pinned.quorums[0].cosigned(mirrored, log=pinned.log(site.key().public))) == 2
    assert read_state(mirrored.text).checkpoint.size == found.version


def test_a_plan_does_not_wait_for_the_mirror_which_follows(
    service: Any, three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a process ends before it, the next one writes it; a model isn't shown before."""
    three.up(0, 1)
    site, sent = service.site, list[tuple[Any, Any]]()
    assert renew(site) is not None
    write = Witness.write

    def sending(witness: Witness, plan: bytes) -> None:
        write(witness, plan)
        note = read_note(SignedPlan.model_validate_json((site.witness / WITNESS).read_bytes()).charge.cosigned.encode())
        kept, _ = read_cosigned(site.cosigned_file)
        sent.append(
            (read_state(note.text).checkpoint, read_state(kept.text).checkpoint, Mirror(site.mirror).checkpoint())
        )

    monkeypatch.setattr(Witness, "write", sending)
    service.operate()
    assert sent
    assert all(cosigned.size > max(kept.size, mirrored.size) for cosigned, kept, mirrored in sent), "the plan has it"
    kept, _ = read_cosigned(site.cosigned_file)
    assert read_state(kept.text).checkpoint.size >= sent[-1][0].size
    with site.ledger() as ledger:
        ledger.set_budget(mu2=1e-3 + ledger.spent(), epsilon=50.0, delta=1e-5)
        assert not Site(site.folder).mirror_cosigned(ledger), "nobody has cosigned that"
        with contextlib.closing(site.witnesses(ledger)) as witnesses:
            shown = witnesses.shown(ledger)
        assert Mirror(site.mirror).checkpoint().size == shown.checkpoint.size - 1
        for _ in range(2):
            assert Site(site.folder).mirror_cosigned(ledger), "the process ended; the next one goes on"
    run = next(event["run"] for event in service.events("closed"))
    made = publish(site, run, lambda extract: b"{}")
    mirrored = read_note((site.mirror / "checkpoint").read_bytes())
    assert read_state(mirrored.text).checkpoint == made.manifest.checkpoint
    assert len(three.pinned(site).quorums[0].cosigned(mirrored, log=three.pinned(site).log(site.key().public))) == 2


def test_nothing_is_charged_while_too_few_witnesses_are_there(service: Any, three: Three, clock: Any) -> None:
    three.up(1)
    file = service.site.folder / "items"
    file.write_text(f"{file.read_text()}new\n")
    clock.slept = 60.0
    service.operate(30)
    status = read_status(service.site)
    assert (status.attempts, status.runs, len(status.models)) == (0, {}, 1), "nor are new items published"
    said = service.events("uncosigned")
    assert "2 of 3 witnesses must cosign size" in said[0]["reason"]
    assert said[0]["reason"].endswith("nothing is charged until they do")
    assert len(said) == 5, "30 minutes: at the start, then after 1, 2, 4, 8 and 16"
    outlook = read_outlook(service.site, now=clock.now)
    assert outlook.next_run["why"] == "too few of the 3 witnesses cosign the ledger"
    three.up(2)
    clock.now += 3600.0
    service.devices.histories = replace(service.devices.histories, n_items=13)
    service.operate(3)
    assert service.events("round")
    found = latest(service.site.afresh()).manifest
    assert (found.items, len(three.pinned(service.site).check("model", found.checkpoint, found.cosigned))) == (13, 2)
    assert len(service.events("serving")) == 2


def test_witnesses_that_are_lost_in_the_middle_cost_one_charge(service: Any, three: Three, clock: Any) -> None:
    """The plan isn't sent, and no device is blamed; the run goes on when they are back."""
    three.up(0, 1)
    began, clock.slept = clock.now, 3600.0
    tried: list[int] = []

    def lose(coordinator: Any) -> None:
        tried.append(coordinator.round)
        if len(tried) == 2:
            now = clock.now
            three.down(1)  # it waits for the process, by sleeping
            clock.now = now

    def until() -> bool:
        if clock.now > began + 2 * 86400 and 1 not in three.running:
            assert read_status(service.site).attempts == len(tried) == 2
            three.up(1)
        return clock.now > began + 5 * 86400

    service.devices.before = lose
    Operation(service.site, service.devices).serve(until)
    rounds = service.events("round")
    assert [(event["reason"], event["charged"]) for event in service.events("aborted")] == [("witnesses", True)]
    assert [event["round"] for event in rounds] == list(range(len(rounds)))
    assert read_status(service.site).attempts == len(rounds) + 1
    assert len(service.events("cosigned")) == 1
    plans = SignedPlan.model_validate_json((service.site.witness / WITNESS).read_bytes())
    assert plans.charge is not None
    assert plans.charge.cosigned is not None


def test_a_publication_that_was_not_cosigned_is_made_again(service: Any, three: Three) -> None:
    three.up(0, 1)
    site = service.site
    assert renew(site) is not None
    service.operate()
    with site.ledger() as ledger:
        run = str(unpublished(ledger))
        closed = ledger.entries(run)[-1].body["facts"]["model_hash"]
    three.down(0, 1)
    with pytest.raises(UncosignedError, match="nothing is charged until they do"):
        publish(site, run, lambda extract: b"{}")
    with site.ledger() as ledger:
        assert unpublished(ledger) == run, "there is no entry that says otherwise"
        assert unwritten(site, ledger) is None
        ledger.publish(run, closed)  # the process ends between entry and model
        assert unpublished(ledger) is None
        assert unwritten(site, ledger) == run
    three.up(0, 1)
    made = publish(site, run, lambda extract: b"{}")
    with site.ledger() as ledger:
        assert unwritten(site, ledger) is None
    assert made.manifest.cosigned is not None
    assert latest(site) is not None


def test_a_quorum_that_shrinks_is_on_record(service: Any, three: Three) -> None:
    site = service.site
    three.up(0, 1)
    assert renew(site) is not None
    site.config_file.write_text(site.config_file.read_text().replace("needed = 2", "needed = 1"))
    shrunk = Site(site.folder)
    assert renew(shrunk) is None, "what two have cosigned, one has"
    with shrunk.ledger() as ledger:
        assert [entry.body["needed"] for entry in ledger.entries() if entry.kind == "witnesses"] == [2, 1]
    without = site.config_file.read_text()
    site.config_file.write_text(without[: without.index("[witnesses]")])
    renew(Site(site.folder))
    with shrunk.ledger() as ledger:
        assert ledger.entries()[-1].body["keys"] == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("needed = 4", "a quorum must need 1 to 3 witnesses"),
        ('urls = ["http://127.0.0.1"]', "keys and urls must be as many"),
    ],
)
def test_settings_that_make_no_quorum_are_refused(three: Three, make_service: Maker, line: str, why: str) -> None:
    name = line.partition(" ")[0]
    extra = "".join(f"{line}\n" if each.startswith(name) else f"{each}\n" for each in three.extra.splitlines())
    with pytest.raises(InputError, match=rf"\[witnesses\].*{why}|{why}"):
        make_service(extra=extra)


def test_a_restored_server_goes_on_where_witnesses_cosigned_last(
    service: Any, three: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mirror nothing is lost; without it, witnesses are given another log, and devices go along."""
    three.up(0, 1)
    site, pinned = service.site, three.pinned(service.site)
    assert renew(site) is not None
    write_backup(site, tmp_path / "a.tar")
    service.operate()
    kept, mirror = shutil.copytree(site.witness, tmp_path / "kept"), shutil.copytree(site.mirror, tmp_path / "mirror")
    data = (kept / WITNESS).read_bytes()
    seen = open_as_device(data, public_key=site.key().public, last_seen=lambda _: None, pinned=pinned).charge
    assert seen is not None

    ports = {"witnesses": [kept], "without_witness": False}
    true, thief = json.loads((kept / COSIGNED).read_bytes()), SigningKey.generate()
    with site.ledger(read_only=True) as ledger:
        log, larger = ledger.log_key(site.key().public), Checkpoint(ledger.checkpoint().size + 2**40, "ab" * 32)
    named = Signature(log.name, log.key_id, thief.sign_text(LogState(log.name, larger).text))
    elsewhere = sign_checkpoint(larger, origin_of("others", site.key().public), site.key())
    for forged in (Note(LogState(log.name, larger).text, (named,)), elsewhere):
        (kept / COSIGNED).write_bytes(canonical_json(true | {"cosigned": forged.to_bytes().decode()}))
        with pytest.raises(IntegrityError, match=r"signature must be by key|another's checkpoint"):
            read_backup(tmp_path / "a.tar", tmp_path / "forged", **ports)
    (kept / COSIGNED).write_bytes(canonical_json(true))
    said = read_backup(tmp_path / "a.tar", tmp_path / "whole", mirror=mirror, **ports)
    assert "entries are read from the mirror; restored: the backup has all that was witnessed" in said
    whole = Site(tmp_path / "whole")
    with whole.ledger() as ledger, contextlib.closing(whole.witnesses(ledger)) as witnesses:
        assert ledger.epoch == 0
        assert witnesses.shown(ledger).cosigned is not None
        assert [run for run, state in read_status(whole).runs.items() if state == "open"] == []
    said = read_backup(tmp_path / "a.tar", tmp_path / "lossy", **ports)
    lossy = Site(tmp_path / "lossy")
    with lossy.ledger() as ledger:
        log = ledger.log_key(lossy.key().public)
        assert ledger.epoch == 1
        assert said.endswith(f"its witnesses must be given {log}")
        with contextlib.closing(lossy.witnesses(ledger)) as witnesses, pytest.raises(UncosignedError):
            witnesses.shown(ledger)
    three.watch(lossy)
    assert renew(lossy) is not None
    found = latest(lossy)
    assert found is not None
    covered = check_pinned("model", found.manifest, pinned=pinned, evidence=data)
    check_growth(covered, seen=seen.checkpoint, evidence=data, spent=float(found.manifest.model_dump()[SPENT]))
    shutil.rmtree(kept)
    kept.mkdir()
    (kept / WITNESS).write_bytes(data)
    bare = read_backup(tmp_path / "a.tar", tmp_path / "plan", **ports)
    assert "refuse it" not in bare, "a plan carries what was cosigned"


def test_the_supervisor_waits_for_witnesses_and_publishes_when_they_are_back(service: Any, three: Three) -> None:
    site = service.site
    with Supervisor(site, card=lambda extract: b"{}", dev=True) as supervisor:
        supervisor._publish()
        supervisor._publish()
        assert len(service.events("uncosigned")) == 1, "they are asked again after a minute"
        assert service.events("published") == []
        three.up(0, 1)
        supervisor._renew_at = 0.0  # a minute later
        supervisor._publish()
        assert [len(service.events(kind)) for kind in ("published", "cosigned")] == [1, 1]
        service.operate()
        supervisor._publish()
        supervisor._publish()
        published = service.events("published")
        assert len(published) == 2
        assert published[1]["run"] is not None
    found = latest(site)
    assert found is not None
    assert found.manifest.cosigned is not None
