"""Same path: whether the audited code is the code of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from palate_audit.evidence.evidence import Finding
from palate_core.errors import InputError
from palate_core.log.canonical import read_canonical
from palate_server.ledger.extract import MOST_EXTRACT, verify_extract
from palate_sim.provenance import auditors, loaded_from_elsewhere, run_sources

SOURCES = "mechanism"
"""Key of the hashes in a run's terms, under `about`."""
SHOWN = 5
"""Modules that a finding names in words; all of them stand in its figures."""


def same_sources(run: Path | None) -> Finding:
    """Compare the modules that a run may load, here and now, with the hashes in its ledger.

    Args:
        run: its folder; None: there is nothing to compare with.

    Raises:
        InputError: the folder has no extract of a ledger.
    """
    test, here = "same path", run_sources()
    recorded = None if run is None else _recorded(run)
    if strays := [name for name in loaded_from_elsewhere() if not auditors(name)]:
        said = f"{_few(strays)} not loaded from the files that are compared"
        return Finding.checked(test, False, said, strays=strays, sources=here)
    if recorded is None:
        return Finding.missing(test, f"no run was given to compare {len(here)} modules with", sources=here)
    if not recorded:
        return Finding.missing(test, "the run's ledger names no sources: it is of an older version", sources=here)
    differ = sorted(name for name in here.keys() & recorded.keys() if here[name] != recorded[name])
    lacking, more = sorted(recorded.keys() - here.keys()), sorted(here.keys() - recorded.keys())
    parts = [
        f"{_few(names)} {what}"
        for names, what in (
            (differ, "of another source than the run's"),
            (lacking, "only where the run was made"),
            (more, "only here"),
        )
        if names
    ]
    said = "; ".join(parts) or f"all {len(here)} modules that a run, a device or a server may load are those of the run"
    return Finding.checked(test, not parts, said, differ=differ, lacking=lacking, more=more, sources=here)


def _few(names: Sequence[str]) -> str:
    """Some of many names, with a verb."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"


def _recorded(run: Path) -> Mapping[str, str]:
    """The hashes in the terms of a run's extract; empty if there are none."""
    try:
        data = (run / "ledger.json").read_bytes()
    except OSError as error:
        raise InputError(f"`--run` must be a run folder with ledger.json, got {run}: {error.strerror}") from None
    # `palate audit ledger` checks the key; here the extract only has to be intact.
    envelope = read_canonical(data, most=MOST_EXTRACT)
    key = envelope.get("public_key") if isinstance(envelope, dict) else None
    extract = verify_extract(data, str(key))
    opened = next((entry.facts for entry in extract.entries if entry.kind == "open"), {})
    about = opened.get("about")
    found = about.get(SOURCES) if isinstance(about, dict) else None
    return found if isinstance(found, dict) else {}
