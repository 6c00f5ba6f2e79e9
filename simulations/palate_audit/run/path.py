"""Same path: whether the audited code is the code of a run, and whether masks change its releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate_audit.evidence.evidence import Finding
from palate_audit.harness.canaries import orthogonal
from palate_audit.harness.production import Production
from palate_common.errors import InputError
from palate_common.records.canonical import read_canonical
from palate_server.ledger.extract import MOST_EXTRACT, verify_extract
from palate_sim.provenance import mechanism_sources

SOURCES = "mechanism"
"""Key of the hashes in a run's terms, under `about`."""
MASKED_USERS = 24


def same_sources(run: Path | None) -> Finding:
    """Compare the loaded modules with the hashes in a run's ledger.

    Args:
        run: its folder; None: there is nothing to compare with.

    Raises:
        InputError: the folder has no extract of a ledger.
    """
    test, loaded = "same path", mechanism_sources()
    if run is None:
        return Finding.missing(test, f"no run was given to compare {len(loaded)} modules with", sources=loaded)
    recorded = _recorded(run)
    if not recorded:
        return Finding.missing(test, "the run's ledger names no sources: it is of an older version", sources=loaded)
    differ = sorted(name for name in {*loaded, *recorded} if loaded.get(name) != recorded.get(name))
    said = f"{len(loaded)} modules of the mechanism are those of the run" if not differ else f"{differ[0]} differs"
    if set(loaded) != set(recorded):
        said = "the run's ledger names the modules of another version"
    return Finding.checked(test, not differ, said, differ=differ, sources=loaded)


def masks_change_nothing(target: Production, *, seed: int) -> Finding:
    """Release the same seeded noise with masks on and off, with few users, and compare bit for bit."""
    small = replace(
        target, users=MASKED_USERS, counts=4 * MASKED_USERS, products=4 * MASKED_USERS, masks=False,
        users_per_node=1, corrupt_share=0.0,
    )  # fmt: skip
    canaries = orthogonal(small.blocks, users=small.users, seed=seed)
    clear = small.run(canaries.rows, seed=seed)
    masked = replace(small, masks=True).run(canaries.rows, seed=seed)
    same = sum(np.array_equal(a, b) for a, b in zip(clear.vectors, masked.vectors, strict=True))
    return Finding.checked(
        "masks release the same bits",
        same == len(clear.vectors) == len(masked.vectors),
        f"{same} of {len(clear.vectors)} releases of {small.users} devices are the same with masks on and off",
    )


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
