"""Warm start: a former release of the population, read and checked before a run starts from it.

Its arrays are public, and were charged when they were released. To keep out forged arrays, the release must be the
one that its run closed with in the population's ledger; the run's terms then pin the arrays by their hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate_common.algorithms import State
from palate_common.models import published
from palate_common.models.model import GlobalModel
from palate_core.errors import InputError
from palate_core.plan import Noise
from palate_server.ledger.ledger import Ledger
from palate_sim.config import SimulationConfig
from palate_sim.evaluation.periods import rows_of


@dataclass(frozen=True)
class FormerRelease:
    """The former release that a run starts from.

    Attributes:
        about: `run`, `model_hash` and `releases`, for the run's terms and card.
        inputs: its public arrays, over the new catalogue.
    """

    about: dict[str, Any]
    inputs: State


def former_release(
    config: SimulationConfig, *, population: str, items: Sequence[str], ledger: Path
) -> FormerRelease | None:
    """Read the release that the configuration names; None if it names none.

    Args:
        config: of the new run.
        population: whose release it must be.
        items: the new catalogue, which must have every item of the former one.
        ledger: the population's.

    Raises:
        InputError: no release there, not as it was signed, not the ledger's, of another population, algorithm or
            catalogue, or without the privacy that the new run promises.
    """
    if config.warm_start is None:
        return None
    former = published.read_named(Path(config.warm_start), "warm_start")
    model, manifest = former.model, former.manifest.model_extra or {}
    run, own = str(manifest.get("run")), config.algorithm.name
    if (whose := former.manifest.population) != population:
        raise InputError(f"`warm_start` must be a release of the population {population!r}, got one of {whose!r}")
    if not config.privacy.mode.private or (config.privacy.noise is Noise.SECURE and not manifest.get("for_release")):
        raise InputError(
            f"`warm_start` needs privacy in both runs, as strict in the former one, got dp {config.privacy.dp.value} "
            f"after dp {manifest.get('dp')} with {manifest.get('noise')} noise"
        )
    if model.header.algorithm != own:
        raise InputError(f"`warm_start` must be a release of the algorithm {own}, got {model.header.algorithm}")
    _check_ledger(ledger, population, run, model.hash)
    try:
        inputs = handed_over(model, former.items, items)
    except InputError as error:
        raise InputError(f"`warm_start` must fit this run: {error}") from None
    about = {"run": run, "model_hash": model.hash, "releases": model.header.releases}
    return FormerRelease(about, inputs)


def handed_over(model: GlobalModel, former_items: Sequence[str], items: Sequence[str]) -> State:
    """The public arrays that a release over `items` can start from.

    Raises:
        InputError: the algorithm can't go on from a release, or `items` lacks a former one.
    """
    if not model.algorithm.hands_over():
        raise InputError(f"the algorithm must be one that can go on from a release, got {model.header.algorithm}")
    return model.algorithm.hand_over(model.state, rows_of(former_items, items), len(items))


def _check_ledger(path: Path, population: str, run: str, model_hash: str) -> None:
    """Refuse a release that the population's ledger doesn't know."""
    closed: list[Any] = []
    if path.is_file() and path.stat().st_size:
        with Ledger(path, population=population, read_only=True) as ledger:
            closed = [entry.body["facts"].get("model_hash") for entry in ledger.entries(run) if entry.kind == "close"]
    if closed != [model_hash]:
        raise InputError(
            f"`warm_start` must be the model that its run was closed with in the ledger {path.name}, got another: give "
            "the ledger that the former run was charged to with --ledger, and the folder as that run left it"
        )
