"""Statements: what `result.json`, `run.json` and the catalogue say, against the ledger and the released counts.

The ledger and the card fix what is claimed. The figures of the results must say the same of it. Quality and times are
the operator's word, which the signed inventory keeps from being changed by others. The order of the catalogue's rows
must say nothing: rows in the order of popularity give away exact ranks, that no charge covers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from palate_audit.evidence.chance import ALPHA
from palate_audit.evidence.evidence import Finding
from palate_audit.run.run_records import RunRecords
from palate_common.algorithms.popularity import COUNTS
from palate_common.models import published
from palate_common.models.catalogue import read_lines
from palate_common.models.model import GlobalModel
from palate_core.errors import PalateError

LEAST_ITEMS = 30
"""Items from which an order can be told from chance at all."""


def statements(records: RunRecords) -> Iterator[Finding]:
    """Every finding on what stands beside the ledger."""
    yield _result(records)
    yield _started(records)
    yield _order(records)


def _result(records: RunRecords) -> Finding:
    """The privacy figures of the results are the ledger's and the card's."""
    test, result = "figures of the result", records.read("result.json")
    if result is None:
        if (records.folder / "result.json").is_file():
            return Finding.checked(test, False, "result.json can't be read", changed=["result.json"])
        return Finding.missing(test, "there is no result.json")
    terms, card = records.terms, records.read("privacy_card.json") or {}
    privacy = _part(_part(result, "config"), "privacy")
    expected: dict[str, tuple[Any, Any]] = {
        "run": (result.get("run"), records.run),
        "epsilon_requested": (result.get("epsilon_requested"), terms.epsilon),
        "delta": (result.get("delta"), terms.delta),
        "dp": (result.get("dp"), terms.dp.value),
        "noise": (result.get("noise"), terms.noise.value),
        "masks": (
            result.get("masks"),
            None if terms.cohort is None else ("on" if terms.cohort.masks else "off"),
        ),
        "unit": (result.get("unit"), terms.unit),
        "adjacency": (result.get("adjacency"), "zero-out"),
        "config.privacy.dp": (privacy.get("dp"), terms.dp.value),
    }
    if terms.epsilon is not None:
        expected["config.privacy.epsilon"] = (privacy.get("epsilon"), terms.epsilon)
    if records.closed is not None:
        expected["rounds"] = (result.get("rounds"), records.closed.get("releases"))
        expected["created"] = (result.get("created"), records.closed.get("created"))
    curve = result.get("curve")
    if isinstance(curve, list) and records.closed is not None:
        places = sorted(records.seals)
        points = [(p.get("round"), p.get("attempt")) if isinstance(p, dict) else None for p in curve]
        expected["curve"] = (points, places if places else points)
    if isinstance(card.get("population"), dict):
        expected["epsilon"] = (result.get("epsilon"), card.get("epsilon"))
        spent = card["population"].get("spent_epsilon")
        expected["population_epsilon"] = (result.get("population_epsilon"), spent)
    wrong = [name for name, (found, owed) in expected.items() if found != owed]
    if wrong:
        found, owed = expected[wrong[0]]
        said = f"result.json says {wrong[0]} {found!r:.60}, the ledger and the card {owed!r:.60}"
        return Finding.checked(test, False, said, changed=["result.json"])
    return Finding.checked(test, True, f"{len(expected)} figures are those of the ledger and the card")


def _started(records: RunRecords) -> Finding:
    """`run.json` has the terms that the ledger opened the run with."""
    test, started = "terms of the folder", records.read("run.json")
    if started is None:
        if (records.folder / "run.json").is_file():
            return Finding.checked(test, False, "run.json can't be read", changed=["run.json"])
        return Finding.missing(test, "there is no run.json")
    own = records.terms.model_dump(mode="json")
    said = _part(started, "terms")
    wrong = sorted(name for name in own.keys() | said.keys() if own.get(name) != said.get(name))
    if wrong:
        said_of = f"run.json says {wrong[0]} {said.get(wrong[0])!r:.60}, ledger.json {own.get(wrong[0])!r:.60}"
        return Finding.checked(test, False, said_of, changed=["run.json"])
    return Finding.checked(test, True, "run.json has the terms that the ledger has")


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that should be an object; {} if it isn't."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _order(records: RunRecords) -> Finding:
    """Rows of the catalogue are in the order of their ids, or at least not in that of the counts."""
    test, model = "order of the catalogue", records.folder / "model"
    try:
        items = read_lines((model / published.ITEMS).read_bytes())
        counts = GlobalModel.from_bytes((model / published.MODEL).read_bytes()).state.get(COUNTS)
    except (OSError, ValueError, PalateError):
        return Finding.missing(test, "model/items or the model can't be read")
    return ordered(test, items, counts, own=True)


def ordered(test: str, items: Sequence[str], counts: Any, *, own: bool) -> Finding:
    """Compare a catalogue's order with released counts.

    Args:
        test: the finding's name.
        items: ids in row order.
        counts: of a released model, one an item, or None.
        own: Palate itself made the catalogue of a log, and not an operator who states that it is public.
    """
    if list(items) == sorted(items):
        return Finding.checked(test, True, f"{len(items):,} rows in the order of their ids: a place says nothing")
    said = "the rows aren't in the order of their ids"
    if counts is None or np.shape(counts) != (len(items),) or len(items) < LEAST_ITEMS:
        return Finding.missing(test, f"{said}, and there are too few released counts to compare with")
    places, ranks = np.arange(len(items)), np.argsort(np.argsort(-np.asarray(counts, np.float64), kind="stable"))
    rho = float(np.corrcoef(places, ranks)[0, 1])
    # Under any order that doesn't depend on the counts, rho is about normal with variance 1 / (n - 1).
    p_value = math.erfc(abs(rho) * math.sqrt(len(items) - 1) / math.sqrt(2))
    if p_value >= ALPHA:
        return Finding.missing(test, f"{said}, and don't follow the counts (rank correlation {rho:.2f})", rho=rho)
    said = f"{said}, and follow the released counts (rank correlation {rho:.2f}): "
    if own:
        return Finding.checked(test, False, f"{said}exact ranks that nobody charged", rho=rho)
    return Finding.missing(test, f"{said}if it was made from users' events, it gives away exact ranks", rho=rho)
