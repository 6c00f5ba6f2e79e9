"""What is acknowledged is on the disk: when a call returns, neither a killed process nor a power cut undoes it.

Every method of both sides' ledgers that writes is called, and each decision of a user. After each call

- **another process**: the files are copied, as they are, and opened by themselves: they have all that the call did;
- **a power cut**: every commit of these files has been waited for (`mechanism.harness.durable`).

Methods are found by looking at the classes, so that a new one is among them, or is said not to have been looked at.

**Assumes:** a disk keeps what it reports as synced.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from plans import kept_plan

from mechanism.checks.ledgers.books import beside, done
from mechanism.harness.durable import Commits, watched_commits
from mechanism.harness.probe_run import POPULATION
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client import consent
from palate_client.consent import PURPOSES, Consent, Purpose
from palate_client.device import Device, open_device
from palate_client.ledger.own_ledger import ONE, OwnLedger
from palate_client.rounds.contribution import OneDevice, Participations
from palate_client.service import Service
from palate_common.system import memory_folder
from palate_core.log.canonical import canonical_json
from palate_core.log.entries import entry_from
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import COSIGNATURE, VerifierKey
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

HASH = "ab" * 32
KEY = bytes(range(32))
READING: Mapping[type, frozenset[str]] = {
    Ledger: frozenset(
        {"handed_over", "lost_key", "log_key", "epoch", "first_key", "entries", "runs", "spent", "checkpoint", "shown",
         "inclusion_proof", "consistency_proof", "leaves", "extract", "copy", "close"}
    ),
    SimulatedLedger: frozenset(
        {"affords", "receipts", "charges", "size", "spent", "seen", "seen_checkpoint", "seen_payload", "close"}
    ),
    OwnLedger: frozenset(
        {"affords", "receipts", "size", "spent", "seen", "seen_checkpoint", "seen_payload", "close"}
    ),
    Consent: frozenset({"get", "history", "settle"}),  # which writes only what denies, after older events were put back
}  # fmt: skip
"""Methods that write nothing; every other public one is called."""

Calls = Mapping[str, Callable[[], object]]


def disk() -> list[Finding]:
    """Both ledgers, an app's own, and its user's decisions."""
    lives = {
        "population": _population, "devices": _devices, "an app's own": _own, "decisions": _decisions,
    }  # fmt: skip
    return beside({f"on the disk, {name}": life for name, life in lives.items()})


def unlisted(kind: type, calls: Collection[str]) -> Iterator[str]:
    """Public methods that are neither called nor said to write nothing."""
    bases = [each for each in READING if issubclass(kind, each)]
    known = set(calls).union(*(READING[each] for each in bases))
    for name, _ in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_") and name not in known:
            yield f"`{name}` of {kind.__name__} was not looked at"


def _waited(commits: Commits, name: str, *path: str) -> Iterator[str]:
    """Whether the disk has what a call did to the files with these parts of a path."""
    if not commits.watched(*path):
        yield f"{name} opens no file"
    if commits.waiting(*path):
        yield f"{name} returns before the disk has it: a power cut would undo it"


def _copied(file: Path) -> Path:
    """The files of a database as they are, with the journal beside it, in a folder of their own."""
    folder = Path(tempfile.mkdtemp(dir=file.parent))
    for each in (file, file.with_name(f"{file.name}-wal")):
        if each.exists():
            shutil.copy(each, folder / each.name)
    return folder / file.name


def _population() -> Iterator[str]:
    """The population's ledger."""
    old, new, newest = release_key(), SigningKey.generate(), SigningKey.generate()
    place = {"run": "one", "round_": 0, "attempt": 0}
    witness = str(VerifierKey.of("witness.example", SigningKey.generate(), COSIGNATURE))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        commits = stack.enter_context(watched_commits())
        file = folder / "population.ledger.db"
        ledger = stack.enter_context(Ledger(file, population=POPULATION))
        charged: dict[str, Any] = {**place, "plan_hash": HASH, "mu2": 0.5, "facts": {}, "run_limit": 1.0}

        def recovered() -> None:
            _, leaves = ledger.leaves(ledger.checkpoint().size)
            extra = entry_from({"seq": len(leaves), "kind": "budget", "mu2": 0.9, "epsilon": 4.0, "delta": 1e-6})
            ledger.recover([*leaves, canonical_json(extra.body)])

        calls: Calls = {
            "set_budget": lambda: ledger.set_budget(mu2=1.0, epsilon=5.0, delta=1e-6),
            "open_run": lambda: ledger.open_run("one", {}),
            "charge": lambda: ledger.charge(**charged),
            "seal": lambda: ledger.seal(**place, release_hash=HASH),  # type: ignore[arg-type]
            "close_run": lambda: ledger.close_run("one", {}),
            "publish": lambda: ledger.publish("one", HASH),
            "set_witnesses": lambda: ledger.set_witnesses([witness], 1),
            "hand_over": lambda: ledger.hand_over(old, new),
            "start_anew": lambda: ledger.start_anew(new.public, newest),
            "recover": recovered,
            "restore": lambda: ledger.restore(witness=Checkpoint(ledger.checkpoint().size + 2, HASH), spent=0.75),
        }
        yield from unlisted(Ledger, calls)
        for name, call in calls.items():
            before = ledger.checkpoint().size
            call()
            yield from _waited(commits, name, str(file))
            with Ledger(_copied(file), population=POPULATION, read_only=True) as alone:
                if alone.entries() != ledger.entries() or alone.checkpoint().size <= before:
                    yield f"{name} returns before another process finds it in the file"
            yield ""


def _calls(ledger: Participations) -> Calls:
    """The methods of a device's ledger that write; `join` calls `charge`."""
    step: dict[str, Any] = {"device": ONE, "run": "one", "round_": 0, "attempt": 0}
    return {
        "join": lambda: ledger.join(kept_plan(run="one", mu2=0.5), n_bytes=1, purpose="train", devices=[ONE]),
        "latch": lambda: ledger.latch("input", HASH, **step),
        "see": lambda: ledger.see(POPULATION, Checkpoint(3, HASH), b"evidence", after=None),
    }


def _known(ledger: Participations, name: str) -> bool:
    """Whether a ledger that was opened by itself has what a call did: what it does again is refused, or known."""
    calls = _calls(ledger)
    if name == "latch":  # another message for this step is refused
        step: dict[str, Any] = {"device": ONE, "run": "one", "round_": 0, "attempt": 0}
        return not done(lambda: ledger.latch("input", "cd" * 32, **step))
    if name == "join":
        return not done(calls["join"])
    return ledger.seen(POPULATION)[1] == b"evidence"


def _devices() -> Iterator[str]:
    """A ledger of devices."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        commits = stack.enter_context(watched_commits())
        file = folder / "devices.db"
        ledger = stack.enter_context(SimulatedLedger(file))
        calls = _calls(ledger)
        yield from unlisted(SimulatedLedger, {*calls, "charge"})
        for name, call in calls.items():
            call()
            yield from _waited(commits, name, str(file))
            with SimulatedLedger(_copied(file), durable=False) as alone:
                if not _known(alone, name):
                    yield f"{name} returns before another process finds it in the file"
            yield ""


def _opened(stack: ExitStack, folder: Path, service: Service) -> Device:
    """A device on files that stand for those another process finds: not for a copy, where nothing is agreed to."""
    stack.enter_context(mock.patch.object(consent, "_is_copy", return_value=False))
    return stack.enter_context(open_device(folder, app="audit", key=KEY, service=service))


def _own() -> Iterator[str]:
    """An app's own, encrypted ledger."""
    service = Service(public_key=release_key().public, population=POPULATION)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        device = _opened(stack, folder / "app", service)
        device.consent.grant("store")
        commits = stack.enter_context(watched_commits())
        ledger = stack.enter_context(OwnLedger(device.store, service))
        calls = _calls(OneDevice(ledger))
        yield from unlisted(OwnLedger, {*calls, "charge"})
        for name, call in calls.items():
            call()
            yield from _waited(commits, name, str(folder / "app"), "ledger")
            shutil.copytree(folder / "app", folder / name)
            with ExitStack() as other:
                alone = other.enter_context(OwnLedger(_opened(other, folder / name, service).store, service))
                if not _known(OneDevice(alone), name):
                    yield f"{name} returns before another process finds it in the file"
            yield ""


def _decisions() -> Iterator[str]:
    """What a user agrees to, and takes back, for every purpose; and what is stored before it isn't lost either."""
    service = Service(public_key=release_key().public, population=POPULATION)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        commits = stack.enter_context(watched_commits())
        device = _opened(stack, folder / "app", service)
        calls: Mapping[str, Callable[[Purpose], object]] = {
            "grant": device.consent.grant,
            "revoke": device.consent.revoke,
        }
        yield from unlisted(Consent, calls)
        for name in ("grant", "revoke", "grant", "revoke"):
            for purpose in PURPOSES:
                calls[name](purpose)
                yield from _waited(commits, f"{name} `{purpose}`", str(folder / "app"), ".db")
            place = Path(tempfile.mkdtemp(dir=folder))
            shutil.copytree(folder / "app", place / "app")
            with ExitStack() as other:
                alone = _opened(other, place / "app", service)
                if {alone.consent.get(purpose) for purpose in PURPOSES} != {name == "grant"}:
                    yield f"{name} returns before another process finds it in the file"
            yield ""
