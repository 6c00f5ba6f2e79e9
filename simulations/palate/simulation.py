"""`palate.simulate`: a federated run on a log, from Python or a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate_common.extras import to_install
from palate_common.keywords import says_which
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_sim.data import Source
    from palate_sim.run.result import Result


@says_which("palate.simulate")
def simulate(
    data: Source | Any = None,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    dp: str | None = None,
    preset: str | None = None,
    algorithm: str | None = None,
    split: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = False,
) -> Result:
    """Train a federated recommender on a log, privately, and compare it with its baselines.

    What is left out is the preset's, or where that says nothing, the default.

    Args:
        data: a data frame of pandas or polars, pairs of a user and an item, a path, or a name of `palate data list`;
            MovieLens small when left out.
        epsilon: of the whole run, default 5; unit: user, adjacency: zero-out. Not used with `dp="off"`.
        delta: default min(1e-5, 1/(10 N)) for N training users.
        dp: who adds the noise: "distributed" (all devices together, the default), "local" (each device by itself),
            "central" (the server), or "off" for research.
        preset: movies, shop, news, music, ratings, liang2018, chien2021, or the path of a configuration.
        algorithm: an installed algorithm; default "als".
        split: how users or events are held out; default "strong".
        seed: default 0; of the split, ties and public randomness; never of a release's noise.
        out: the run folder, new or empty; default runs/<name>-<time>.
        ledger: the population's ledger; default beside the run folder.
        settings: any other configuration key, dotted, as with `--set`.
        progress: show progress on stderr; None: on a terminal and in a notebook.

    Returns:
        The finished run: `metrics`, `baselines`, `epsilon`, `model`, `card`, `plots`, `report`.

    Raises:
        InputError: bad data or configuration; nothing was written.
        BudgetError: the population's budget doesn't allow the run.
    """
    try:
        from palate_sim.config import load_config
        from palate_sim.run import experiment
    except ModuleNotFoundError as error:
        raise InputError(f"`palate.simulate` needs {error.name}: {to_install('simulations')}") from None
    if not isinstance(settings or {}, Mapping):
        raise InputError(f"`settings` must be dotted keys with their values, got {settings!r:.60}")
    given = {
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "privacy.dp": dp,
        "algorithm.name": algorithm,
        "split.name": split,
        "seed": seed,
    }
    chosen = {key: value for key, value in given.items() if value is not None} | dict(settings or {})
    from palate_sim.data.readers import as_source
    from palate_sim.progress import Progress, wanted

    started = experiment.start(
        load_config(preset, chosen),
        source=as_source(data),
        out=None if out is None else _path("out", out),
        ledger=None if ledger is None else _path("ledger", ledger),
    )
    with Progress(started.folder.events, quiet=not wanted(progress)) as notify:
        return started.run(notify)


def _path(name: str, given: str | Path) -> Path:
    """A path that somebody gave.

    Raises:
        InputError: it is none.
    """
    if not isinstance(given, (str, Path)):
        raise InputError(f"`{name}` must be a path, got {given!r:.60}")
    return Path(given)
