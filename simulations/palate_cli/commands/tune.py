"""`palate tune`: better settings, looked for on the validation users alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from palate_cli.commands.simulate import chosen, sort_out
from palate_common.records.files import write_durably
from palate_sim.config import load_config

SHOWN = 5
"""Best trials in the table."""


def tune(
    what: Annotated[
        str | None, typer.Argument(metavar="[PRESET|CONFIG.toml|LOG]", help="A preset, a configuration or a log.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="The log; see `palate data list`.")] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The study's folder; a study that is there already goes on.")
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to look, as TOML. Default: a space for als.")
    ] = None,
    trials: Annotated[int, typer.Option(metavar="K", help="Trials in all, those that are there included.")] = 30,
    epsilon: Annotated[
        float | None, typer.Option(metavar="E", help="Epsilon of a whole run: user-level, zero-out. Default 5.")
    ] = None,
    algorithm: Annotated[str | None, typer.Option(metavar="NAME", help="The learning algorithm.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="The split; it must hold out users.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed of split, folds, noise and search.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable.")
    ] = None,
) -> None:
    """Look for better settings, on the validation users alone: nothing is charged, and the card says on whom."""
    from rich.console import Console

    from palate_sim.plots.tuning import tuning
    from palate_sim.progress import Progress
    from palate_sim.studies.tuning import BEST, read_space, tune

    given = {"privacy.epsilon": epsilon, "algorithm.name": algorithm, "split.name": split, "seed": seed}
    base, log = sort_out(what, data)
    config = load_config(base, chosen(given, settings or ()))
    where = None if space is None else read_space(space)
    try:
        with Progress() as progress:
            tuned = tune(config, out=out, trials=trials, space=where, source=log, notify=progress)
    except KeyboardInterrupt:
        typer.echo("palate: interrupted; the same command goes on", err=True)
        raise typer.Exit(130) from None
    write_durably(out / "tuning.html", tuning(tuned.facts).to_html(include_plotlyjs=True, full_html=True).encode())
    console = Console()
    console.print(_table(tuned.facts))
    console.print(said(tuned.facts), soft_wrap=True)
    console.print(f"{tuned.facts['privacy']}; the card of a run of {BEST} says so", soft_wrap=True)
    if tuned.facts["charged"] is not None:
        console.print(charge(tuned.facts), style="dim", soft_wrap=True)
    console.print(f"written: {out}/{BEST}, study.json, tuning.html; next: palate simulate {out}/{BEST}", soft_wrap=True)


def _table(facts: Mapping[str, Any]) -> Table:
    """The best trials, and the untuned configuration."""
    keys = [key.rpartition(".")[2] for key in facts["space"]]
    title = f"{facts['metric']} of {facts['users']:,} validation users of {facts['name']}"
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name in ("trial", "mean", "± error", *keys):
        table.add_column(name, justify="right")
    best = sorted(facts["finished"], key=lambda row: -row["value"])[:SHOWN]
    for row in [*best, {"trial": "untuned", "settings": {}, **facts["untuned"]}]:
        tried = [_short(row["settings"].get(key, "")) for key in facts["space"]]
        table.add_row(str(row["trial"]), f"{row['value']:.4f}", f"{row['error']:.4f}", *tried)
    return table


def said(facts: Mapping[str, Any]) -> str:
    """How much was gained, and that the best of several looks better than it is."""
    gain, error = facts["best"]["value"] - facts["untuned"]["value"], facts["best"]["error"]
    if facts["best"]["trial"] == 0:
        return f"no trial of {facts['trials']} was above the untuned settings: best.toml has these"
    words = "which chance alone may give" if gain < 2 * error else "more than two standard errors"
    return (
        f"trial {facts['best']['trial']} is {gain:+.4f} above the untuned settings, {words}; the best of "
        f"{facts['trials']} trials looks better than it is, and the run judges it on test users"
    )


def charge(facts: Mapping[str, Any]) -> str:
    """What the other honest rule would cost."""
    from palate_sim.progress.wording import epsilon_text
    from palate_sim.studies.tuning import CHARGED

    numbers = {name: epsilon_text(value) for name, value in facts["charged"].items()}
    return f"{CHARGED.format(**numbers)}; {facts['beside']}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
