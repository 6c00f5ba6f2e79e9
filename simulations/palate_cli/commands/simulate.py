"""`palate simulate`: a federated run on a log, with its privacy and its baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from palate_core.errors import InputError
from palate_sim.config import load_config, parse_setting, preset_names

if TYPE_CHECKING:
    from palate_sim.run.experiment import Started
    from palate_sim.run.result import Result

DATA_SUFFIXES = (".csv", ".gz", ".tsv", ".parquet", ".inter", ".dat", ".data", ".txt")


def simulate(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRESET|CONFIG.toml|LOG]",
            help="A preset (movies, shop, news, music, ratings, or a published protocol: liang2018, chien2021), a "
            "configuration, or the log of interactions. "
            "Default: MovieLens small, which comes with palate[demo-data].",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The log, where the argument is a preset or a configuration."),
    ] = None,
    panel: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|PATH|NAME",
            help="Whose log is open, as a public prior: a share of the training users, a log of the same catalogue, or "
            "a starter (`palate starter list`).",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(metavar="E", help="Epsilon of the whole run: user-level, zero-out adjacency. Default 5."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option(metavar="D", help="Default min(1e-5, 1/(10 N)) for N training users.")
    ] = None,
    dp: Annotated[
        str | None,
        typer.Option(
            metavar="distributed|local|central|off",
            help="Who adds the noise: devices together (default), each alone, the server, nobody.",
        ),
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            metavar="on|off", help="With distributed: secure aggregation, or the same sum in the clear (default)."
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="secure|seeded", help="secure (default), or repeatable by --seed: not for release."),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The algorithm: als (default), sgd, event-mf, popularity, or an installed one."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What is held out: strong (default: users), leave-last-out, temporal, random, ...",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(metavar="T", help="Releases, popularity included. Default: by the budget.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", help="Seed of split, ties and public randomness; never of secure noise.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder, new or empty. Default runs/NAME-TIME.")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The population's ledger: all its runs add up there. Default: beside the run folder.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="local|flower|ray",
            help="This machine's cores (default), Flower's Ray engine, or a Ray cluster.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes that train more than 65,536 users. Default: one a core."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out that was cut off; takes no other option.")
    ] = False,
    save_recommendations: Annotated[
        bool, typer.Option("--save-recommendations", help="Write the recommended lists and the split as CSV.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable. See `palate config`."),
    ] = None,
) -> None:
    """Train a federated recommender on a log with privacy, and show its quality and that of the baselines."""
    from rich.console import Console

    from palate_cli.cli import called
    from palate_cli.commands.starter import place_of
    from palate_sim.progress import Progress, print_result
    from palate_sim.run import experiment
    from palate_sim.run.result import Result
    from palate_sim.run.run_folder import RunFolder

    given = {
        "data.panel": None if panel is None else place_of(panel),
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "privacy.dp": dp,
        "privacy.masks": masks,
        "privacy.noise": noise,
        "algorithm.name": algorithm,
        "algorithm.settings.rounds": rounds,
        "split.name": split,
        "seed": seed,
        "engine.name": engine,
        "engine.workers": workers,
        "evaluation.save_recommendations": save_recommendations or None,
    }
    overrides = chosen(given, settings or ())
    typed = click.get_current_context().find_object(str)
    if not resume:
        base, log = sort_out(what, data)
        with Progress() as progress:
            started = experiment.start(
                load_config(base, overrides), source=log, out=out, ledger=ledger, command=typed, notify=progress
            )
        result = _finish(started)
    elif out is None or overrides or (what, data, ledger) != (None, None, None):
        raise InputError("`--resume` takes --out DIR and nothing else: the run folder holds its configuration")
    else:
        result = Result.read(out) if RunFolder(out).finished else _finish(_reopened(out))
    print_result(Console(), result.summary, result.report, result.people, palate=called())


def _reopened(out: Path) -> Started:
    """A run that was cut off, with its data."""
    from palate_sim.progress import Progress
    from palate_sim.run import experiment

    with Progress() as progress:
        return experiment.reopen(out, notify=progress)


def _finish(started: Started) -> Result:
    """Run to the end, with progress on stderr; after Ctrl-C, print how to resume."""
    from palate_sim.progress import Progress

    try:
        with Progress(started.folder.events) as progress:
            return started.run(progress)
    except KeyboardInterrupt:
        typer.echo(f"palate: interrupted; go on with: palate simulate --resume --out {started.folder.path}", err=True)
        raise typer.Exit(130) from None


def chosen(given: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The configuration keys that options and `--set` choose.

    Raises:
        InputError: not key=value, or not a finite number.
    """
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(parse_setting(text) for text in settings)
    for key, value in overrides.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"`{key}` must be a finite number, got {value}")
    return overrides


def sort_out(what: str | None, data: str | None) -> tuple[str | None, str | None]:
    """The preset or configuration, and the log, from the argument and --data.

    Raises:
        InputError: the argument is none of these, or names a second log.
    """
    from palate_sim.data import is_place, list_datasets

    if data == "":
        raise InputError("`--data` must be a name or a path, got nothing")
    if what is None or what in preset_names() or what.endswith(".toml"):
        return what, data
    named = what in {dataset.name for dataset in list_datasets()}
    if not (named or what.lower().endswith(DATA_SUFFIXES) or (what and is_place(what))):
        known = ", ".join(preset_names())
        raise InputError(
            f"the argument must be a preset ({known}), a .toml file, a log or a name of `palate data list`, "
            f"got {what!r:.80}"
        )
    if data is not None:
        raise InputError(f"the log must be given once, got {what!r} and --data {data!r}")
    return None, what
