"""Schedule: which run has to be continued, and when the next one is due, by the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from palate_common.survey import SURVEYING
from palate_server.ledger.history import CloseEntry, Entry
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.terms import RunTerms


def unfinished_run(ledger: Ledger) -> str | None:
    """The interrupted run, if there is one; a restored ledger has closed all runs."""
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
    """When the next training is due, seconds since 1970; 0: now. After one without a release, in `pause` seconds."""
    if (latest := latest_training(ledger)) is None:
        return 0.0
    return closed_at(latest) + (every_hours * 3600 if latest.facts.get("releases") else pause)


def just_closed(ledger: Ledger, *, now: float, within: float) -> bool:
    """Whether a training released something so recently that its model may not be published yet."""
    latest = latest_training(ledger)
    if latest is None or not latest.facts.get("releases"):
        return False
    return closed_at(latest) <= now < closed_at(latest) + within


def kind_of(algorithm: str) -> Literal["survey", "training"]:
    """What a run with this algorithm is."""
    return "survey" if algorithm == SURVEYING else "training"


def terms_of(ledger: Ledger, run: str) -> RunTerms:
    """The terms with which a run was opened."""
    return RunTerms.model_validate(ledger.entries(run)[0].body["facts"])


def latest_training(ledger: Ledger) -> CloseEntry | None:
    """The entry that closed the latest training."""
    entries = ledger.entries()
    others = untrained(entries)
    closed = (entry for entry in reversed(entries) if isinstance(entry, CloseEntry) and entry.run not in others)
    return next(closed, None)


def untrained(entries: Iterable[Entry]) -> set[str]:
    """The runs that train nothing: surveys."""
    return {entry.run for entry in entries if entry.kind == "open" and entry.facts.get("algorithm") == SURVEYING}


def closed_at(close: CloseEntry) -> float:
    """When a run was closed, seconds since 1970."""
    return datetime.fromisoformat(str(close.facts["created"])).timestamp()
