"""`palate simulate`: a federated run on a log, with its privacy and its baselines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from palate_common.errors import InputError
from palate_sim.config import load_config, parse_setting, preset_names

DATA_SUFFIXES = (".csv", ".gz", ".tsv", ".parquet", ".inter", ".dat", ".data", ".txt")


def simulate(
    what: Annotated[
        str | None, typer.Argument(metavar="[PRESET|CONFIG.toml|LOG]", help="A preset, a configuration or a log.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="The log; see `palate data list`.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of the whole run: user-level, zero-out.")] = None,
    delta: Annotated[float | None, typer.Option(help="Default min(1e-5, 1/(10 N)).")] = None,
    dp: Annotated[str | None, typer.Option(metavar="central|off", help="Who adds the noise.")] = None,
    noise: Annotated[str | None, typer.Option(metavar="secure|seeded", help="seeded is not for release.")] = None,
    algorithm: Annotated[str | None, typer.Option(metavar="NAME", help="What learns.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="What is held out.")] = None,
    rounds: Annotated[int | None, typer.Option(metavar="T", help="Releases, popularity included.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split, ties and public randomness.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run folder.")] = None,
    ledger: Annotated[Path | None, typer.Option(metavar="PATH", help="The population's ledger.")] = None,
    engine: Annotated[str | None, typer.Option(metavar="local|flower", help="What carries the messages.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    save_recommendations: Annotated[
        bool, typer.Option("--save-recommendations", help="Write recommendations and split as CSV.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable.")
    ] = None,
) -> None:
    """Train a federated recommender on a log, privately, and show its quality beside the baselines."""
    from rich.console import Console

    from palate_sim import experiment
    from palate_sim.progress import Progress, print_result
    from palate_sim.run_folder import RunFolder

    given = {
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "privacy.dp": dp,
        "privacy.noise": noise,
        "algorithm.name": algorithm,
        "algorithm.settings.rounds": rounds,
        "split.name": split,
        "seed": seed,
        "engine.name": engine,
        "evaluation.save_recommendations": save_recommendations or None,
    }
    overrides: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(parse_setting(text) for text in settings or ())
    for key, value in overrides.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{key}` must be a finite number, got {value}")
    if resume:
        if out is None or what is not None or data is not None or overrides or ledger is not None:
            raise InputError("`--resume` takes --out DIR and nothing else: the run folder holds its configuration")
        with Progress(RunFolder(out).events if RunFolder(out).run_file.exists() else None) as progress:
            result = experiment.resume(out, notify=progress)
    else:
        base, log = sort_out(what, data)
        config = load_config(base, overrides)
        started = experiment.start(config, source=log, out=out, ledger=ledger)
        with Progress(started.folder.events) as progress:
            result = started.run(progress)
    print_result(Console(), result.summary, report=result.report)


def sort_out(what: str | None, data: str | None) -> tuple[str | None, str | None]:
    """The preset or configuration, and the log, from the argument and --data."""
    if what is None or what in preset_names() or what.endswith(".toml"):
        return what, data
    if data is None and (what.lower().endswith(DATA_SUFFIXES) or Path(what).exists()):
        return None, what
    known = ", ".join(preset_names())
    raise InputError(f"`simulate` takes a preset ({known}), a .toml file or a log, got {what!r}")
