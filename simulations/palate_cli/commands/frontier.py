"""`palate frontier`: quality against eps, and against a projected number of users."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from palate_cli.commands.simulate import sort_out
from palate_common.records.files import write_durably
from palate_core.errors import InputError
from palate_sim.config import load_config, parse_setting
from palate_sim.run.run_folder import check_new


def frontier(
    what: Annotated[
        str | None, typer.Argument(metavar="[PRESET|CONFIG.toml|LOG]", help="A preset, a configuration or a log.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="The log; see `palate data list`.")] = None,
    epsilons: Annotated[str, typer.Option(metavar="E,E,...", help="Epsilons: user-level, zero-out.")] = "0.5,1,2,5,10",
    users: Annotated[str, typer.Option(metavar="M,M,...", help="Multiples of the users to project to.")] = "1,10,100",
    seeds: Annotated[int, typer.Option(help="Number of seeds to average over, for splits and noises.")] = 3,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    delta: Annotated[float | None, typer.Option(help="Default min(1e-5, 1/(10 N)).")] = None,
    algorithm: Annotated[str | None, typer.Option(metavar="NAME", help="The learning algorithm.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="The split, which says what is held out.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write frontier.json and frontier.html.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; repeatable.")
    ] = None,
) -> None:
    """Measure what privacy costs on this data, and how more users reduce the cost. Nothing is charged or released."""
    from rich.console import Console

    from palate_sim.progress import Progress
    from palate_sim.studies.frontier import ASSUMPTION, CHECKED, measure

    given = {"privacy.delta": delta, "algorithm.name": algorithm, "split.name": split, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    base, log = sort_out(what, data)
    config = load_config(base, overrides | dict(parse_setting(text) for text in settings or ()))
    factors = [int(factor) for factor in _numbers("users", users)]
    if out is not None:
        check_new(out)
    with Progress() as progress:
        measured = measure(
            config,
            epsilons=_numbers("epsilons", epsilons),
            seeds=seeds,
            factors=factors,
            source=log,
            notify=progress,
        )
    console = Console()
    console.print(_table(measured.facts()))
    console.print(f"ε with {measured.facts()['privacy']}", soft_wrap=True)
    console.print(ASSUMPTION, style="dim", soft_wrap=True)
    console.print(CHECKED, style="dim", soft_wrap=True)
    if out is not None:
        _write(out, measured.facts())
        console.print(f"written: {out}/frontier.json, .html")


def _table(facts: Mapping[str, Any]) -> Table:
    """One row an epsilon; columns for these users, each projection and noised popularity; references below."""
    columns = {f"{facts['users']:,} users": (facts["quality"], "1 x users")}
    for multiple, values in facts["projected"].items():
        users = f"{facts['users'] * int(multiple):,}"
        columns[users] = values, f"{multiple} x users"
        columns[f"{users}, repeated"] = facts["repeated"][multiple], f"repeated {multiple} x users"
    columns["noised popularity"] = (facts["noised popularity"], "noised popularity")
    table = Table(title=f"{facts['metric']} on {facts['name']}", box=None, pad_edge=False, title_justify="left")
    for name in ("ε", *columns):
        table.add_column(name, justify="right")
    for row, epsilon in enumerate(facts["epsilons"]):
        cells = [_cell(values[row], facts["intervals"][key][row]) for values, key in columns.values()]
        table.add_row(f"{epsilon:g}", *cells)
    known = {"off": "without privacy", "ease": "EASE", "popularity": "popularity"}
    table.caption = ", ".join(f"{words} {facts[name]:.3f}" for name, words in known.items() if name in facts)
    table.caption_justify = "left"
    return table


def _cell(mean: float, interval: Sequence[float | None]) -> str:
    """A mean, and half the width of its 95 % interval over seeds."""
    low, high = interval
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ± {(high - low) / 2:.3f}"


def _write(out: Path, facts: Mapping[str, Any]) -> None:
    """Write the figures as JSON, and the figure as an interactive page that loads nothing."""
    from palate_sim.plots import frontier as figure

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_durably(out / "frontier.json", json.dumps(facts, indent=1, allow_nan=False).encode())
        page = figure(facts).to_html(include_plotlyjs=True, full_html=True)
        write_durably(out / "frontier.html", page.encode())
    except OSError as error:
        raise InputError(f"`--out` must be writable, got {out}: {error.strerror}") from None


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"`--{name}` must be numbers separated by commas, got {text!r}") from None
