"""`palate sandbox`: a made population that lives with Palate on a fast clock, as a page or as a report."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate_cli.ending import interruptible
from palate_common.records.files import write_durably
from palate_core.errors import InputError, PalateError

if TYPE_CHECKING:
    from palate_sandbox.config import SandboxConfig
    from palate_sandbox.world import SandboxWorld
    from palate_sim.steps import Notify


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
    port: Annotated[
        int, typer.Option(metavar="P", min=1, max=65535, help="Port of the page, on this machine alone.")
    ] = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
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
    if report is None:
        _check_port(port)
    else:
        _check_report(report)
    from palate_sandbox.folder import sandbox_folder
    from palate_sandbox.world import SandboxWorld
    from palate_sim.progress import Progress

    with interruptible(), sandbox_folder() as folder, Progress() as progress:
        if report is None:
            _serve(config, folder, progress, port=port, browser=browser)
            return
        with SandboxWorld(config, folder, notify=progress) as world:
            _live(world, progress)
            _tell(world, report)


def _live(world: SandboxWorld, notify: Notify) -> None:
    """Live all days."""
    from palate_sim.steps import step

    with step(notify, "living", of=world.config.days, unit="days") as advance:
        for _ in world.live():
            advance(1)


def _serve(config: SandboxConfig, folder: Path, progress: Notify, *, port: int, browser: bool) -> None:
    """Show the page, and live, until somebody ends it."""
    import webbrowser

    from palate_sandbox.page.app import SandboxPage
    from palate_sandbox.page.runner import Runner
    from palate_sandbox.world import SandboxWorld
    from palate_server.service.listener import Listener
    from palate_sim.steps import step

    told: list[Notify] = [progress]

    def notify(event: Mapping[str, Any]) -> None:
        for each in told:
            each(event)

    with ExitStack() as stack:
        world = stack.enter_context(SandboxWorld(config, folder, notify=notify))
        runner = stack.enter_context(Runner(world))
        told.append(runner.notify)
        listener = Listener(SandboxPage(runner).application, host="127.0.0.1", port=port)
        stack.callback(listener.stop)
        listener.start()
        address = f"http://127.0.0.1:{port}/"
        typer.echo(f"the sandbox: {address} (Ctrl-C ends it, and all of it is gone)")
        runner.start()
        if browser:
            webbrowser.open(address)
        with step(progress, "living", of=config.days, unit="days") as advance:
            shown = 0
            while not runner.wait(0.5):
                advance(world.today - shown)
                shown = world.today
        if runner.broken:
            raise PalateError(f"the sandbox doesn't go on: {runner.broken}")
        _tell(world, None)
        threading.Event().wait()


def _check_report(file: Path) -> None:
    """Refuse a report that can't be written, before anything is lived.

    Raises:
        InputError: it can't.
    """
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(f"`--headless-report` must be a file in a folder that is there, got {file}")
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise InputError(f"`--headless-report` must be writable, got {file}: {error.strerror}") from None


def _check_port(port: int) -> None:
    """Refuse a port that is taken, before anything is made.

    Raises:
        InputError: it is.
    """
    from palate_server.service.processes.ports import taken

    if reason := taken("127.0.0.1", port):
        raise InputError(f"`--port` must be free on this machine, got {port}: {reason}")


def _tell(world: SandboxWorld, file: Path | None) -> None:
    """Print the figures, and write the report."""
    from rich.console import Console
    from rich.table import Table

    from palate_sandbox.report import DAYS, SAID, facts

    found = facts(world)
    table = Table(box=None, pad_edge=False)
    for name in ("shown", *(f"D{n}" for n in DAYS), "taken a visit"):
        table.add_column(name, justify="left" if name == "shown" else "right", no_wrap=True)
    for name, each in found["policies"].items():
        table.add_row(name, *(_share(each.get(f"d{n}")) for n in DAYS), f"{each['taken_a_visit']:.2f}")
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
        write_durably(file, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
        console.print(f"report: {file}")


def _share(found: dict[str, float] | None) -> str:
    """A share with what chance leaves open."""
    return "" if found is None else f"{found['share']:.1%} ± {100 * (found['high'] - found['share']):.1f}"
