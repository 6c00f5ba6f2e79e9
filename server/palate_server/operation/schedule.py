"""Schedule: what a site has to go on with, and when something new is due, by its ledger alone."""

from __future__ import annotations

from datetime import datetime

from palate_common.errors import IntegrityError
from palate_common.secagg.directory import Directory
from palate_server.folder.server_folder import Site
from palate_server.ledger.history import CloseEntry
from palate_server.ledger.ledger import Ledger
from palate_server.operation.surveys import surveys_of
from palate_server.rounds.terms import RunTerms


def unfinished_run(ledger: Ledger) -> str | None:
    """The run that was cut off, if any; what a restored ledger has closed can't go on."""
    found = list[str]()
    for entry in ledger.entries():
        if entry.kind == "open":
            found.append(entry.run)
        elif entry.kind == "close":
            found.remove(entry.run)
        elif entry.kind == "restored":
            found.clear()
    return found[0] if found else None


def next_run(ledger: Ledger, *, every_hours: float, pause: float) -> float:
    """When the next training is due, Unix seconds; 0: at once. After one that released nothing, in `pause` seconds."""
    if (latest := _latest(ledger)) is None:
        return 0.0
    return _at(latest) + (every_hours * 3600 if latest.facts.get("releases") else pause)


def just_closed(ledger: Ledger, *, now: float, within: float) -> bool:
    """Whether a training has ended with a release so lately that its model may not be published yet."""
    latest = _latest(ledger)
    return latest is not None and bool(latest.facts.get("releases")) and _at(latest) <= now < _at(latest) + within


def terms_of(ledger: Ledger, run: str) -> RunTerms:
    """What a run promised when it was opened."""
    return RunTerms.model_validate(ledger.entries(run)[0].body["facts"])


def directory_of(site: Site, terms: RunTerms) -> Directory | None:
    """The identities that a run was opened with; None without masks.

    Raises:
        IntegrityError: the file isn't the one that the terms name.
    """
    if terms.cohort is None or terms.cohort.directory is None:
        return None
    directory = Directory.load(site.directories / terms.cohort.directory)
    if directory.hash != terms.cohort.directory:
        raise IntegrityError("the directory of a run must be the one its terms name, got another")
    return directory


def _latest(ledger: Ledger) -> CloseEntry | None:
    """The close of the latest training."""
    entries = ledger.entries()
    surveys = surveys_of(entries)
    closed = (entry for entry in reversed(entries) if isinstance(entry, CloseEntry) and entry.run not in surveys)
    return next(closed, None)


def _at(close: CloseEntry) -> float:
    """When a run was closed, Unix seconds."""
    return datetime.fromisoformat(str(close.facts["created"])).timestamp()
