"""A new algorithm, metric or mutant from a template that works, in its place and registered.

    make new metric=precision        a metric of ranked lists, and its doctest
    make new algorithm=neighbours    an algorithm that counts items, until it does better
    make new mutant=noise/half       a mutant of a group, which nobody can find until it breaks something

Nothing is written if a file or a name is there already.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

METRIC = '''"""{title}: TODO what it says of a list, in a line.

>>> import numpy as np
>>> {name}(np.array([[False, True], [False, False]]), np.array([3, 1])).tolist()
[0.3333333333333333, 0.0]
"""

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Ints


def {name}(hits: npt.NDArray[np.bool_], n_relevant: Ints) -> npt.NDArray[np.float64]:
    """`{name}@k` = TODO the definition; here the share of the held-out items that the list has. Source: TODO.

    Args:
        hits: bool [n_users, k], whether the item at each rank is held out.
        n_relevant: int [n_users], number of held-out items.

    Returns:
        float64 [n_users], 0 to 1.
    """
    return np.asarray(hits.sum(axis=1) / np.maximum(n_relevant, 1), np.float64)
'''

ALGORITHM = '''"""`{dashed}`: TODO what users send, and what the server learns from the noised sum, in a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.algorithms.popularity import COUNTS, popularity_layout, popularity_update
from palate_common.interactions import Interactions
from palate_core.layout import Layout
from palate_common.mechanism.update import Update


class {title}Settings(BaseModel):
    """Settings; they and the public facts decide all sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    rounds: int = Field(default=2, ge=1, le=64)
    """Releases in all."""


class {title}(Algorithm):
    """Item counts of several releases, each by its share of the budget. Source: TODO."""

    name = "{dashed}"
    Settings = {title}Settings
    item_arrays = (COUNTS,)

    def __init__(self, settings: {title}Settings, facts: PublicFacts) -> None:
        self.settings, self.facts = settings, facts

    @property
    def shares(self) -> tuple[float, ...]:
        """Each release's share of mu^2; together 1."""
        return (1 / self.settings.rounds,) * self.settings.rounds

    def start(self) -> State:
        """The public state before round 0."""
        return {{COUNTS: np.zeros(self.facts.n_items, np.float32)}}

    def layout(self, state: State, round_: int) -> Layout:
        """The blocks of a contribution; their squared weights sum to 1."""
        return popularity_layout(self.facts.n_items)

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """One raw contribution a user, which follows from that user's history and the state alone."""
        return popularity_update(histories)

    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """The next public state: post-processing of noised sums."""
        mean = state[COUNTS] + (sums[COUNTS] - state[COUNTS]) / (round_ + 1)
        return {{COUNTS: mean.astype(np.float32)}}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating]:
        """One finite number an item, float [n_users, n_items]."""
        return np.repeat(state[COUNTS][None], histories.n_users, axis=0)
'''

MUTANT = """
{words} | releases
bug: TODO what is wrong, in a line; so far nothing is
seen: TODO where it was seen, or how it comes about
@ palate_server.rounds.noise:noised
- users = aggregate.participation.users
+ users = aggregate.participation.users
"""


class RefusedError(Exception):
    """What was asked for can't be made."""


def put(place: Path, text: str, *texts: tuple[str, str]) -> dict[Path, str]:
    """A file that must not be there yet; `texts` are (what must be in it, what comes before that), for one that is."""
    if not texts:
        if place.exists():
            raise RefusedError(f"{place.relative_to(ROOT)} is there already")
        return {place: text}
    found = place.read_text(encoding="utf-8")
    for mark, new in texts:
        if new.strip() in found or found.count(mark) != 1:
            raise RefusedError(
                f"{place.relative_to(ROOT)} must have one {mark.strip()!r}, and not yet what comes before it"
            )
        found = found.replace(mark, new + mark)
    return {place: found}


def metric(name: str) -> dict[Path, str]:
    """A metric, its lines in the list, and the metric of ir-measures that a test compares it with."""
    folder = ROOT / "simulations/palate_sim/metrics"
    title = name.replace("_", " ").capitalize()
    return (
        put(folder / f"{name}.py", METRIC.format(name=name, title=title))
        | put(
            folder / "__init__.py",
            "",
            ("\nUserMetric = ", f"from palate_sim.metrics.{name} import {name}\n"),
            ("}\n\nLIST_METRICS", f'    "{name}": {name},\n'),
            ('    "recall",\n    "recall_capped"', f'    "{name}",\n'),
        )
        | put(
            ROOT / "tests/simulations/test_metrics.py",
            "",
            ("}\n\n\nclass Table", f'    "{name}": lambda k: ir_measures.R @ k,\n'),
        )
    )


def algorithm(name: str) -> dict[Path, str]:
    """An algorithm, its entry point, and its name among those whose contract is tested."""
    dashed, title = name.replace("_", "-"), "".join(part.capitalize() for part in name.split("_"))
    module = f"palate_common.algorithms.{name}"
    return (
        put(ROOT / "common" / f"{module.replace('.', '/')}.py", ALGORITHM.format(dashed=dashed, title=title))
        | put(
            ROOT / "pyproject.toml",
            "",
            ('\n[project.entry-points."palate.counting"]', f'{dashed} = "{module}:{title}"\n'),
        )
        | put(ROOT / "tests/common/test_algorithms.py", "", (")\n\n\ndef made(", f', "{dashed}"'))
    )


def mutant(name: str) -> dict[Path, str]:
    """A mutant at the end of its group."""
    group, _, name = name.partition("/")
    place = ROOT / f"tests/mutants/rows/{group}.txt"
    if not name or not place.exists():
        raise RefusedError(
            f"`mutant` must be GROUP/NAME with a group of {place.parent.relative_to(ROOT)}, got {group!r}"
        )
    return {place: place.read_text(encoding="utf-8") + MUTANT.format(words=name.replace("_", " "))}


KINDS = {"metric": metric, "algorithm": algorithm, "mutant": mutant}


def main(arguments: list[str]) -> int:
    """Write what is asked for as KIND=NAME, all of it or nothing."""
    try:
        kind, _, name = (arguments or [""])[0].partition("=")
        if len(arguments) != 1 or kind not in KINDS or not re.fullmatch(r"[a-z][a-z0-9_/]*", name):
            raise RefusedError(
                f"one of {', '.join(f'{each}=NAME' for each in KINDS)} is expected, got {' '.join(arguments)!r}"
            )
        if importlib.util.find_spec("ruff") is None:
            raise RefusedError("ruff is needed, which puts imports in order; `make new` installs it")
        written = KINDS[kind](name)
        for place, text in written.items():
            place.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{place.relative_to(ROOT)}\n")
        code = [str(place) for place in written if place.suffix == ".py"]
        for tidy in (["check", "--quiet", "--fix", "--select", "I,F401,RUF022"], ["format", "--quiet"]):
            subprocess.run([sys.executable, "-m", "ruff", *tidy, *code], cwd=ROOT, check=True)  # noqa: S603 # our own files
    except RefusedError as error:
        sys.stderr.write(f"new: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
