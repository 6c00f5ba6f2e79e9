"""Journal: a long measurement, one seed after the other, that goes on where it stopped and says how long it will take.

    once_each("audit-clean", seeds, one_statistical, about=(MODES, EPSILONS)) -> one result a seed

Each result is a line of `build/NAME.jsonl` as soon as it is there. Whoever starts again measures the seeds that have no
line. A line counts while all sources are the same, the benchmarks' among them, and what the measurement says about
itself is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.sheet import plain
from palate_core.log.canonical import canonical_json, digest
from palate_sim.progress import Progress
from palate_sim.provenance import AUDITORS, run_sources, sources_of
from palate_sim.steps import step

FOLDER = Path(__file__).parents[2] / "build"


def once_each(
    name: str, seeds: Iterable[int], measure: Callable[[int], Any], *, about: Any, folder: Path = FOLDER
) -> list[Any]:
    """What is measured for each seed, as a record holds it, in their order.

    Args:
        name: of the journal, and of the work in the terminal.
        seeds: all of them.
        measure: what to do for one.
        about: all that its results follow from beside the seed and the sources.
        folder: of the journal.
    """
    wanted, journal = list(seeds), folder / f"{name}.jsonl"
    source = digest(canonical_json(sources()) + repr(about).encode())
    done = {row["seed"]: row["found"] for row in _rows(journal) if row["source"] == source}
    left = [seed for seed in wanted if seed not in done]
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(every=60) as progress, step(progress, name, of=len(left), unit="seeds") as advance:
        for seed in left:
            done[seed] = plain(measure(seed))
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"source": source, "seed": seed, "found": done[seed]}) + "\n")
            advance(1)
    return [done[seed] for seed in wanted]


def sources() -> dict[str, str]:
    """SHA-256 of the source of each module that a measurement may load, by name."""
    return run_sources() | sources_of(*AUDITORS, "benchmarks")


def _rows(journal: Path) -> Iterable[Any]:
    """Its whole lines: the last one may be cut off, and the next then stands in the same line."""
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue
