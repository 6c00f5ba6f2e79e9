"""`palate bench`: the cost of Palate's computations on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_audit.secagg.cost import MaskingCost, Side

app = typer.Typer(help="What Palate costs on this machine.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """The cost of Palate's computations on this machine."""


@app.command("secagg")
def secagg(
    devices: Annotated[
        int, typer.Option(metavar="N", help="Devices that take part; above 250 they form a ring.")
    ] = 100,
    coordinates: Annotated[int, typer.Option(metavar="D", help="Coordinates of the released vector.")] = 10_000,
    dropped: Annotated[float, typer.Option(metavar="F", help="Share of devices lost after they sent shares.")] = 0.1,
    corrupt: Annotated[float, typer.Option(metavar="F", help="Share of devices that may be corrupt.")] = 0.1,
    noise_multiplier: Annotated[float, typer.Option(metavar="Z", help="Of the release; it determines the bits.")] = 4.0,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Seed of vectors and losses; keys and masks are always fresh.")
    ] = 1,
) -> None:
    """Run one attempt of secure aggregation and time it, and the cryptography that it needs. Writes nothing."""
    for name, value in (("dropped", dropped), ("corrupt", corrupt)):
        if not 0 <= value < 1:
            raise InputError(f"`--{name}` must be at least 0 and below 1, got {value}")
    from palate_audit.secagg.cost import Scale, measure

    scale = Scale(
        devices=devices,
        coordinates=coordinates,
        corrupt=max(1, round(corrupt * devices)),
        dropped=round(dropped * devices),
        noise_multiplier=noise_multiplier,
    )
    cost = measure(scale, seed=seed)
    _print(cost)
    if not cost.exact:
        raise typer.Exit(1)


def _print(cost: MaskingCost) -> None:
    from rich.console import Console
    from rich.table import Table

    scale, graph = cost.scale, cost.graph
    console = Console()
    shape = "complete graph" if graph.complete else f"ring, failure 2^{graph.failure:.1f}, abort 2^{graph.abort:.1f}"
    console.print(
        f"{scale.devices:,} devices, {scale.corrupt:,} corrupt, {scale.dropped:,} dropped; k = {graph.neighbours}, "
        f"t = {graph.threshold} ({shape})",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("CPU ms", "server", "its floor", "a device", "its floor"):
        table.add_column(name, justify="left" if name == "CPU ms" else "right")
    for step in cost.server.taken:
        table.add_row(step.lower(), *_cells(cost.server, step), *_cells(cost.device, step))
    totals = [value * 1e3 for side in (cost.server, cost.device) for value in (side.seconds, side.floor_seconds)]
    table.add_row("all", *(f"{total:,.2f}" for total in totals))
    console.print(table)
    for line in (
        f"server {cost.server.ratio:.2f} x its floor, device {cost.device.ratio:.2f} x "
        f"(mean of {cost.timed} devices); floor: keystreams, X25519 and Ed25519 alone, in the same run",
        f"upload {cost.upload:,.0f} bytes, {cost.upload / cost.packed:.4f} x the packed vector ({cost.bits} bits)",
        f"noise share {cost.noise_seconds * 1e3:,.2f} ms a device, not counted above",
        f"sum of {cost.survivors:,} survivors exact: {'yes' if cost.exact else 'NO'}; peak {cost.peak_mib:,.0f} MiB",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def _cells(side: Side, step: str) -> tuple[str, str]:
    """A step's time, and its floor."""
    return f"{side.taken.get(step, 0) * 1e3:,.2f}", f"{side.floor.get(step, 0) * 1e3:,.2f}"
