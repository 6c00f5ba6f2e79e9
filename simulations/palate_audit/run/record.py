"""Record: an audit's findings become an entry of the ledger, from which the privacy card is made again.

An entry costs no budget, says nothing of users, and can't be removed. Only the operator can add it: it needs the key.

    record(Path("runs/demo"), Path("audit.json").read_bytes())
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate_audit.evidence import document
from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import Section, Verdict
from palate_common.records.key_file import load_key
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import digest
from palate_core.log.signing import SigningKey
from palate_server.ledger.extract import verify_extract
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.lock import RunLock
from palate_sim.card.card import card_payload, sign_card
from palate_sim.run.inventory import renew_inventory
from palate_sim.run.run_folder import RunFolder


def record(folder: Path, audit: bytes, *, ledger: Path | None = None) -> None:
    """Enter an audit in the ledger of a finished run, and write its extract, card and report again.

    A second call with the same audit only writes the files again, which also repairs them after a kill.

    Args:
        folder: the run folder, with its key.
        audit: the bytes of an `audit.json`.
        ledger: the population's; None takes the one that `run.json` names.

    Raises:
        InputError: no audit, an audit of another run, a run that is not closed, or a ledger of another run.
        LockedError: another process uses the folder.
    """
    sections, created = document.read(audit), document.created(audit)
    started = RunFolder(folder).read()
    run, population = str(started["terms"]["run"]), str(started["terms"]["population"])
    path = Path(started["ledger"]) if ledger is None else ledger
    if not path.is_file():
        raise InputError(f"`--ledger` must be the ledger that the run was charged to, got no file: {path}")
    _check_run(sections, run)
    with RunLock(folder), Ledger(path, population=population) as log:
        key = load_key(RunFolder(folder).key_file)
        entries = log.entries(run)
        if not any(entry.kind == "close" for entry in entries):
            raise InputError(f"an audit must be of a run that is finished and in its ledger, got {run}")
        digests = {str(entry.facts.get("sha256")) for entry in entries if entry.kind == "audit"}
        if digest(audit) not in digests:
            log.enter_audit(run, facts(sections, created=created, sha256=digest(audit)))
        _reissue(folder, log, run, key)


def facts(sections: Sequence[Section], *, created: str, sha256: str) -> dict[str, Any]:
    """The parts of an audit that are recorded: date, verdicts, bounds by rung, and each section's `facts`."""
    return {
        "date": created,
        "sha256": sha256,
        "alpha": ALPHA,
        "parts": {section.name: _part(section) for section in sections},
    }


def _part(section: Section) -> dict[str, Any]:
    """One section's verdicts, numbers and bounds."""
    counts = section.counts
    told: Mapping[str, Any] = section.series.get("facts") or {}
    bounds = {
        f"{bound.rung.value} {bound.name}": {
            "epsilon": bound.epsilon,
            "claimed": bound.claimed,
            "ratio": bound.ratio,
            "confidence": bound.confidence,
        }
        for bound in section.bounds
    }
    return {
        "passed": counts[Verdict.PASS],
        "alarms": [found.test for found in section.alarms],
        "not_checkable": counts[Verdict.UNCHECKABLE],
        **({"bounds": bounds} if bounds else {}),
        **{name: value for name, value in told.items() if name != "run"},
    }


def _check_run(sections: Sequence[Section], run: str) -> None:
    if not sections:
        raise InputError("an audit must have a part to be put on record, got none")
    for section in sections:
        named = (section.series.get("facts") or {}).get("run", run)
        if named != run:
            raise InputError(f"the audit must be of the run {run}, got a part {section.name} about {named}")


def _reissue(folder: Path, log: Ledger, run: str, key: SigningKey) -> None:
    """Write extract, card and report from the present ledger."""
    extract, place = log.extract(run, key), RunFolder(folder)
    card = sign_card(card_payload(verify_extract(extract, key.public)), key)
    place.write("ledger.json", extract)
    place.write("privacy_card.json", card)
    renew_inventory(place, key, ("ledger.json", "privacy_card.json"))
    try:
        result = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return
    from palate_sim.report import write_report

    try:
        write_report(result, json.loads(card), folder)
        renew_inventory(place, key, ("report.html",))
    except (KeyError, TypeError, ValueError) as error:
        raise PalateError(f"the report could not be written anew, all else was: {error}") from None
