"""Status: the state of a server, read from the server folder's files, whether it runs or not."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate_core.errors import PalateError
from palate_core.log.checkpoints import read_state
from palate_core.log.notes import VerifierKey
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site, read_cosigned
from palate_server.ledger.ledger import Ledger
from palate_server.operation.outlook import epsilon
from palate_server.operation.releases import listed
from palate_server.operation.schedule import untrained
from palate_server.rounds.terms import noise_delta

NOTHING = "closed without a release"


@dataclass(frozen=True)
class Status:
    """A server's state. Epsilon: unit user (one installation), adjacency zero-out, at `delta`.

    Attributes:
        population: the server's population.
        profile: what its settings follow from; None: nothing.
        missing: what the profile still asks for before it may serve.
        delta: the delta of each epsilon.
        epsilon_spent: epsilon of all charges, rounded up.
        epsilon_left: the budget minus what is spent. Epsilons of runs don't add up, but their mu^2 do: what one more
            run could have is `Outlook.next_run`.
        epsilon_lifetime: the lifetime budget.
        mu2_spent: mu^2 of all charges.
        mu2_left: the budget minus what is spent.
        mu2_lifetime: the lifetime budget.
        attempts: number of the population's charges, sealed or not.
        releases: number of the population's seals.
        runs: run -> open, closed, closed without a release, published or lost, newest first.
        devices: numbers of devices enrolled, the quarantined and excluded ("named") among them, revoked, left; and of
            open invitations.
        models: published models on the disk, newest first.
        epochs: number of restorations of the ledger.
        ledger: size and root of the ledger, to be kept elsewhere as evidence.
        witnesses: who must cosign it: `needed` of `names`, what was cosigned last (`size`; None: nothing), and the
            verifier key of the ledger (`log`), which witnesses are given.
        sizes: bytes of each database, with its write-ahead log.
        release_key: the public key of plans and models, Ed25519, hexadecimal, which apps pin.
    """

    population: str
    profile: str | None
    missing: list[str]
    delta: float
    epsilon_spent: float
    epsilon_left: float
    epsilon_lifetime: float
    mu2_spent: float
    mu2_left: float
    mu2_lifetime: float
    attempts: int
    releases: int
    runs: dict[str, str]
    devices: dict[str, int]
    models: list[dict[str, Any]]
    epochs: int
    ledger: dict[str, Any]
    witnesses: dict[str, Any]
    sizes: dict[str, int]
    release_key: str

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON values."""
        return asdict(self)


def read_status(site: Site) -> Status:
    """Read the state of a server folder.

    Raises:
        InputError, IntegrityError: one of its files is invalid.
    """
    delta = noise_delta(site.config.privacy.dp, site.config.privacy.delta)
    with site.reading() as ledger, Enrolments(site.enrolment_file) as register:
        entries, spent, checkpoint = ledger.entries(), ledger.spent(), ledger.checkpoint()
        log = ledger.log_key(site.key().public)
        devices = register.counts(now=time.time())
    budget = min((entry.mu2 for entry in entries if entry.kind == "budget"), default=0.0)
    kinds = [entry.kind for entry in entries]
    return Status(
        population=site.config.population,
        profile=site.config.profile,
        missing=site.config.missing(site.folder),
        delta=site.config.privacy.delta,
        epsilon_spent=epsilon(spent, delta),
        epsilon_left=max(0.0, epsilon(budget, delta) - epsilon(spent, delta)),
        epsilon_lifetime=epsilon(budget, delta),
        mu2_spent=spent,
        mu2_left=max(0.0, budget - spent),
        mu2_lifetime=budget,
        attempts=kinds.count("charge"),
        releases=kinds.count("seal"),
        runs=runs_of(ledger_entries=entries),
        devices=devices,
        models=[
            {"version": version, "manifest": name, "run": manifest.get("run"), "releases": manifest["releases"]}
            for version, name, manifest in listed(site)
        ],
        epochs=kinds.count("restored"),
        ledger={"size": checkpoint.size, "root": checkpoint.root},
        witnesses=_witnesses(site, log),
        sizes={
            path.relative_to(site.folder).as_posix(): _size(path) for path in (site.ledger_file, site.enrolment_file)
        },
        release_key=site.key().public,
    )


def runs_of(*, ledger_entries: list[Any]) -> dict[str, str]:
    """Run -> its state, newest first."""
    states: dict[str, str] = {}
    for entry in ledger_entries:
        match entry.kind:
            case "open":
                states[entry.run] = "open"
            case "close":
                states[entry.run] = "closed" if entry.facts.get("releases") else NOTHING
            case "publish" if entry.run is not None:
                states[entry.run] = "published"
            case "restored":
                states |= {run: "lost" for run, state in states.items() if state == "open"}
    return dict(reversed(states.items()))


def unpublished(ledger: Ledger) -> str | None:
    """The latest training run that is closed with a release, if nothing was published since."""
    entries = ledger.entries()
    others = untrained(entries)
    for run, state in runs_of(ledger_entries=entries).items():
        if run in others:
            continue
        if state == "published":
            return None
        if state == "closed":
            return run
    return None


def _witnesses(site: Site, log: VerifierKey) -> dict[str, Any]:
    settings = site.config.witnesses
    try:
        note, _ = read_cosigned(site.cosigned_file)
        size = read_state(note.text).checkpoint.size
    except (OSError, PalateError):
        size = None
    return {
        "names": [VerifierKey.read(key).name for key in settings.keys],
        "needed": settings.needed if settings.keys else 0,
        "size": size,
        "log": str(log),
    }


def _size(path: Path) -> int:
    """Bytes of a database with its log, which goes at any moment when the last process closes it."""
    size = 0
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            size += Path(f"{path}{suffix}").stat().st_size
    return size
