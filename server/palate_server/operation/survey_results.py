"""Results: a survey's result for the operator: figures with error bars, A/B tests, and the privacy cost.

    sealed release -> figures, comparisons -> surveys/WEEK.json in the server folder, signed

It is computed from the sealed release alone, so that it can be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate_common.records.files import write_durably
from palate_common.survey import Survey
from palate_core.accounting import epsilon_of, total_mu2
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.signing import verify
from palate_server.folder.profiles import TRIAL
from palate_server.folder.server_folder import Site
from palate_server.ledger.ledger import Ledger
from palate_server.operation.releases import candidate
from palate_server.operation.surveys import surveys_of
from palate_server.rounds.terms import RunTerms, noise_delta
from palate_server.surveys.analytics import DEFINITIONS, comparisons, cost, figures

TAG = "palate/figures/1"
MOST_RESULT = 2**22
"""The most bytes of a result that is read."""
WEEKS = 12
"""So many weeks are read for a report."""


def released(ledger: Ledger) -> dict[str, str]:
    """Week -> run of each closed survey with a release, oldest first."""
    entries = ledger.entries()
    sealed = {entry.run for entry in entries if entry.kind == "seal"}
    closed = {entry.run for entry in entries if entry.kind == "close"}
    return {str(settings["first_day"]): run for run, settings in surveys_of(entries).items() if run in sealed & closed}


def result_of(site: Site, ledger: Ledger, week: str | None = None) -> dict[str, Any]:
    """Compute the result of a week's survey, as JSON values.

    Args:
        site: the server folder.
        ledger: its ledger.
        week: the week's Monday; None: the latest.

    Raises:
        InputError: there is no such result.
        IntegrityError: the release isn't the sealed one.
    """
    runs = released(ledger)
    if not runs:
        raise InputError("a survey must have a release before it has a result, got none: see `palate survey plan`")
    chosen = next(reversed(runs)) if week is None else week
    if chosen not in runs:
        raise InputError(f"`--week` must be one of {', '.join(runs)}, got {week!r:.40}")
    made = candidate(site, ledger, runs[chosen])
    survey = Survey.model_validate(made.terms.settings)
    return {
        "week": chosen,
        "run": runs[chosen],
        "population": site.config.population,
        **({"trial": True} if made.terms.about.get("profile") == TRIAL else {}),
        "cost": _cost(made.terms, spent=total_mu2(ledger.spent(run) for run in surveys_of(ledger.entries()))),
        "figures": [asdict(each) | {"definition": DEFINITIONS[each.name]} for each in figures(made.model)],
        "tests": {
            name: {
                "looks": list(survey.looks_of(name)),
                "outcome": survey.outcomes.get(name, "days"),
                "found": None if compared is None else asdict(compared),
            }
            for name, compared in comparisons(made.model).items()
        },
    }


def _cost(terms: RunTerms, *, spent: float) -> dict[str, Any]:
    """The cost of a survey for each device that answers, of a year of them, and of all surveys so far."""
    delta = noise_delta(terms.dp, terms.delta)
    week = cost(mu=terms.facts.mu or 0.0, delta=delta)
    return {
        "epsilon": week.epsilon,
        "yearly_epsilon": week.yearly,
        "surveys_epsilon": epsilon_of(mu=math.sqrt(spent), delta=delta),
        "delta": terms.delta,
        "unit": "user (one installation)",
        "adjacency": "zero-out",
        "accountant": "palate closed form",
        "dp": terms.dp.value,
    }


def write_result(site: Site, result: dict[str, Any]) -> Path:
    """Write a result, signed with the release key, to a file that only its owner can read."""
    site.surveys.mkdir(mode=0o700, exist_ok=True)
    path = site.surveys / f"{result['week']}.json"
    signature = site.key().sign(TAG, canonical_json(result))
    write_durably(path, canonical_json({"result": result, "signature": signature}), mode=0o600)
    return path


def read_result(data: bytes, *, public_key: str) -> dict[str, Any]:
    """Read and verify a result.

    Raises:
        IntegrityError: it isn't the signed one.
    """
    kept = read_canonical(data, most=MOST_RESULT)
    if not isinstance(kept, dict) or set(kept) != {"result", "signature"}:
        raise IntegrityError("a result must hold result and signature, got something else")
    verify(public_key, TAG, canonical_json(kept["result"]), kept["signature"])
    result: dict[str, Any] = kept["result"]
    return result


def latest_results(site: Site) -> list[dict[str, Any]]:
    """The latest results, newest first; of one that the release key, now or before, hasn't signed the week alone."""
    paths = sorted(site.surveys.glob("*.json"), reverse=True)[:WEEKS] if site.surveys.is_dir() else []
    if not paths:
        return []
    with site.reading() as ledger:
        keys = (site.key().public, *(each.old_key for each in ledger.handed_over()))
    return [_read_one(path, keys) for path in paths]


def _read_one(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    data = path.read_bytes()
    for key in keys:
        with suppress(PalateError):
            return read_result(data, public_key=key)
    return {"week": path.stem, "broken": "the file isn't what was signed"}
