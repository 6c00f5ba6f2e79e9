"""Agenda: what a site has to go on with, and when something new is due, by its ledger alone."""

from __future__ import annotations

from datetime import datetime

from palate_common.errors import IntegrityError
from palate_common.ledger import Ledger
from palate_common.secagg.directory import Directory
from palate_server.service.site import Site
from palate_server.service.surveys import surveys_of
from palate_server.terms import RunTerms


def open_run(ledger: Ledger) -> str | None:
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


def next_run(ledger: Ledger, *, every_hours: float) -> float:
    """When the next training is due, Unix seconds; at once where there was none, or the last released nothing."""
    entries = ledger.entries()
    surveys = surveys_of(entries)
    closed = [entry.facts for entry in entries if entry.kind == "close" and entry.run not in surveys]
    if not closed:
        return 0.0
    pause = every_hours * 3600 if closed[-1].get("releases") else 0.0
    return datetime.fromisoformat(str(closed[-1]["created"])).timestamp() + pause


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
