"""`palate sandbox`: a made population that lives with Palate on a fast clock, as a page or as a report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate_common.errors import InputError

if TYPE_CHECKING:
    from palate_sandbox.world import SandboxWorld


def sandbox(
    scenario: Annotated[
        str | None, typer.Option(metavar="films|shop|news|music", help="What is offered. Default films.")
    ] = None,
    people: Annotated[
        int | None, typer.Option(metavar="N", help="People with a whole device SDK each. Default 100.")
    ] = None,
    crowd: Annotated[
        int | None, typer.Option(metavar="N", help="People who are hosted in the same rounds. Default 10000.")
    ] = None,
    days: Annotated[int | None, typer.Option(metavar="N", help="Days that they live. Default 60.")] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", help="Seed of people and of chance; noise is always fresh. Default 0.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="none|popularity|palate", help="What they are shown at first. Default palate."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--assumptions", metavar="FILE", help="TOML that changes what people are assumed to be like."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--headless-report", metavar="FILE", help="No page: live all days, and write a report as JSON."),
    ] = None,
) -> None:
    """Live some weeks of a made population with Palate: real devices, rounds, budgets, surveys; made people."""
    from palate_sandbox.config import load

    given: dict[str, Any] = {
        "scenario": scenario, "people": people, "crowd": crowd, "days": days, "seed": seed, "policy": policy,
    }  # fmt: skip
    config = load(file, {name: value for name, value in given.items() if value is not None})
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        raise InputError(f"`--headless-report` must be a file in a folder that is there, got {report}")
    from palate_cli.commands.serve.folder import interruptible
    from palate_sandbox.world import SandboxWorld
    from palate_sim.progress import Progress
    from palate_sim.steps import step

    with (
        interruptible(),
        _folder() as folder,
        Progress() as progress,
        SandboxWorld(config, folder, notify=progress) as world,
    ):
        with step(progress, "living", of=config.days, unit="days") as advance:
            for _ in world.live():
                advance(1)
        _tell(world, report)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for server and stores, gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix="palate-sandbox-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _tell(world: SandboxWorld, file: Path | None) -> None:
    """Print the figures, and write the report."""
    from rich.console import Console
    from rich.table import Table

    from palate_sandbox.report import DAYS, SAID, facts

    found = facts(world)
    table = Table(box=None, pad_edge=False)
    for name in ("shown", *(f"D{n}" for n in DAYS), "still there after 30", "visits", "taken a visit"):
        table.add_column(name, justify="left" if name == "shown" else "right")
    for name, each in found["policies"].items():
        cells = [_share(each.get(f"d{n}")) for n in DAYS]
        left = each.get("with_us_after_30")
        table.add_row(
            name, *cells, "" if left is None else f"{left:.1%}", f"{each['visits']:,}", f"{each['taken_a_visit']:.2f}"
        )
    console, surveys, privacy = Console(), found["surveys"], found["privacy"]
    console.print(table)
    console.print(
        f"surveys: {surveys['hold']} of {surveys['told']} intervals (95 %) hold the truth; {surveys['suppressed']} "
        "figures were suppressed: too few devices",
        soft_wrap=True,
    )
    console.print(
        f"ε = {privacy['epsilon']:.2f} of {privacy['lifetime_epsilon']:g} spent (δ = {privacy['delta']:g}, unit: "
        f"{privacy['unit']}, adjacency: {privacy['adjacency']}, accountant: {privacy['accountant']}); masks off",
        soft_wrap=True,
    )
    console.print(SAID, style="dim", soft_wrap=True)
    if file is not None:
        file.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        console.print(f"report: {file}")


def _share(found: dict[str, float] | None) -> str:
    """A share with what chance leaves open."""
    return "" if found is None else f"{found['share']:.1%} ± {found['high'] - found['share']:.1%}"
