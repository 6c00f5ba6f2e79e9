"""Battery: every module of seams, and `python -m palate_audit.answers.battery` to record what they give.

Without names of modules, what the code asks is recorded, too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from palate_audit.answers import new_code
from palate_audit.answers.seam import Seam, known_answers, record
from palate_audit.answers.seams import (
    accounting,
    admission,
    algorithms,
    contributions,
    devices,
    downloads,
    leaving,
    ledgers,
    masks,
    noise,
    online,
    publication,
    records,
    stores,
    sums,
    witnesses,
)
from palate_audit.evidence.evidence import Finding

PARTS: Mapping[str, Sequence[Seam]] = MappingProxyType(
    {
        "accounting": accounting.SEAMS,
        "sums": sums.SEAMS,
        "noise": noise.SEAMS,
        "algorithms": algorithms.SEAMS,
        "contributions": contributions.SEAMS,
        "admission": admission.SEAMS,
        "devices": devices.SEAMS,
        "online": online.SEAMS,
        "stores": stores.SEAMS,
        "leaving": leaving.SEAMS,
        "downloads": downloads.SEAMS,
        "masks": masks.SEAMS,
        "ledgers": ledgers.SEAMS,
        "publication": publication.SEAMS,
        "records": records.SEAMS,
        "witnesses": witnesses.SEAMS,
    }
)
"""Module -> its seams."""


def all_answers(*, quick: bool = False) -> list[Finding]:
    """Findings of all seams."""
    return [found for name, seams in PARTS.items() for found in known_answers(name, seams, quick=quick)]


def main(names: Sequence[str]) -> None:
    """Record the answers of all modules, or of those that are named."""
    for name in names or PARTS:
        record(name, PARTS[name])
        print(f"{name}: {sum(seam.cases for seam in PARTS[name]):,} cases", flush=True)
    if not names:
        new_code.record()


if __name__ == "__main__":
    main(sys.argv[1:])
