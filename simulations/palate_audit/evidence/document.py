"""Document: the sections of an audit as one JSON file, `audit.json`; each audit command adds its section.

>>> section = Section("ledger", "runs/one", (Finding.checked("chain", True, "12 entries"),))
>>> read(write([section])) == (section,)
True
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict
from palate_core.errors import InputError, PalateError
from palate_core.log.canonical import digest

SCHEMA = 1
ORDER = ("ledger", "mechanism", "attacks", "card")
"""The parts of an audit, in the report's order."""


def as_json(section: Section) -> dict[str, Any]:
    """A section as JSON values."""
    return {**asdict(section), "verdict": worst(section).value}


def from_json(value: Mapping[str, Any]) -> Section:
    """Read a section from the values of `as_json`.

    Raises:
        KeyError, TypeError, ValueError: the values are no section.
    """
    findings = [{**found, "verdict": Verdict(found["verdict"])} for found in value["findings"]]
    bounds = [{**bound, "rung": Rung(bound["rung"])} for bound in value["bounds"]]
    return Section(
        name=value["name"],
        subject=value["subject"],
        findings=tuple(Finding(**found) for found in findings),
        bounds=tuple(Bound(**bound) for bound in bounds),
        assumptions=tuple(value["assumptions"]),
        series=dict(value["series"]),
    )


def worst(section: Section) -> Verdict:
    """ALARM if there is any, else UNCHECKABLE if there is any, else PASS."""
    found = {each.verdict for each in section.findings}
    return next((v for v in (Verdict.ALARM, Verdict.UNCHECKABLE) if v in found), Verdict.PASS)


def write(sections: Sequence[Section], *, page: bytes | None = None) -> bytes:
    """The bytes of the file.

    Args:
        sections: the parts of the audit.
        page: the report for people that is written beside it, whose hash it names.

    Raises:
        InputError: a section holds what isn't JSON.
    """
    document: dict[str, Any] = {
        "palate": "audit",
        "schema": SCHEMA,
        "version": version("palate"),
        "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "page": None if page is None else digest(page),
        "sections": [as_json(section) for section in sections],
    }
    try:
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, PalateError) as error:
        raise InputError(f"a section of an audit must be JSON values, got: {error}") from None


def read(data: bytes) -> tuple[Section, ...]:
    """Read the sections of a file.

    Raises:
        InputError: it is no audit.
    """
    try:
        document = json.loads(data)
        if document["palate"] != "audit" or document["schema"] != SCHEMA:
            raise ValueError
        return tuple(from_json(section) for section in document["sections"])
    except (ValueError, KeyError, TypeError, AttributeError, InputError, RecursionError):
        raise InputError("an audit must be the JSON that `palate audit` writes, got something else") from None


def together(before: Sequence[Section], now: Sequence[Section]) -> tuple[Section, ...]:
    """The parts of an audit; a new part replaces an old one of the same name."""
    parts = {section.name: section for section in (*before, *now)}
    return tuple(sorted(parts.values(), key=lambda part: ORDER.index(part.name) if part.name in ORDER else len(ORDER)))
