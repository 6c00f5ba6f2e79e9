"""`palate feasibility`: the cost and quality of a run, before there is any data."""

from __future__ import annotations

from typing import Annotated

import typer


def feasibility(
    users: Annotated[int, typer.Option(metavar="N", help="Installations in one sum; of a server its `cohort.size`.")],
    items: Annotated[int, typer.Option(metavar="M", help="Items in the catalogue.")],
    epsilon: Annotated[float, typer.Option(help="Epsilon of the whole run: user-level, zero-out.")] = 5.0,
    delta: Annotated[float | None, typer.Option(help="Default min(1e-5, 1/(10 N)).")] = None,
) -> None:
    """Plan a run of the default algorithm from public numbers alone."""
    from rich.console import Console
    from rich.table import Table

    from palate_sim.studies.feasibility import plan

    planned = plan(users=users, items=items, epsilon=epsilon, delta=delta)
    console = Console()
    table = Table(box=None, pad_edge=False)
    for name in ("round", "releases", "noise / sensitivity", "ε after", "sends", "receives"):
        table.add_column(name, justify="left" if name == "releases" else "right")
    what = ["item counts", *[f"{planned.head_items:,} x {planned.embedding_size}"] * (planned.rounds - 1)]
    for row in zip(
        what, planned.noise_multipliers, planned.epsilon_after, planned.bytes_up, planned.bytes_down, strict=True
    ):
        released, noise, after, up, down = row
        table.add_row(str(table.row_count + 1), released, f"{noise:.2f}", f"{after:.3g}", _bytes(up), _bytes(down))
    console.print(table)
    if planned.pair_items:
        console.print(f"round 2 also counts the pairs of {planned.pair_items:,} items; later models have their links")
    console.print(
        f"ε = {planned.epsilon:g} (δ = {planned.delta:g}, unit: user, adjacency: zero-out, accountant: palate closed "
        f"form); mu = {planned.mu:.3f}, signal mu x users = {planned.signal:,.0f}",
        soft_wrap=True,
    )
    band = planned.band
    console.print(
        f"expected quality: {band.low:.0%} to {band.high:.0%}, middle {band.middle:.0%}, of what the same algorithm "
        f"reaches without privacy; basis: {band.points} measurements on {', '.join(band.sets)}; {band.note}",
        soft_wrap=True,
    )
    if planned.rounds == 1:
        console.print(
            "with so few users all of the budget buys noised popularity; more users buy taste", style="yellow"
        )


def _bytes(count: int) -> str:
    """A size in the unit that fits."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
