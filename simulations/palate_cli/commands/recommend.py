"""`palate recommend`: what a finished run recommends to somebody who says what they like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate_core.errors import InputError

NEAR, CLOSE = 3, 5
"""Given titles of which similar ones are shown, and how many of these."""


def recommend(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] TITLE...", help="A run's folder, by default the newest in runs/, and titles."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A whole history: what Letterboxd, Netflix, Goodreads and others hand out, or a list of titles as CSV "
            "or text.",
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="Whose, where FILE has several people.")] = None,
    dates: Annotated[
        str | None, typer.Option(metavar="ORDER", help="Of dates in FILE: day first, month first or year first.")
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=1000, help="How many.")] = 8,
) -> None:
    """Print what a finished run recommends for some titles, or for a whole history, and why."""
    from rich.console import Console
    from rich.text import Text

    from palate_sim.progress.people import listed
    from palate_sim.progress.wording import clean, epsilon_line, stamp
    from palate_sim.run.lists import Asker, newest_run
    from palate_sim.run.result import Result
    from palate_sim.run.run_folder import RunFolder

    titles = list(words or ())
    named = bool(titles) and Path(titles[0]).is_dir()
    run = Path(titles.pop(0)) if named else newest_run()
    if not RunFolder(run).finished:
        raise InputError(f"`run` must be the folder of a finished run, got {str(run)!r:.80}")
    if not titles and history is None:
        raise InputError('`titles` must be one or more, such as "Toy Story (1995)", or `--history` a file, got none')
    console = Console()
    result = Result.read(run)
    with Asker(result) as asker:
        read = "" if history is None else asker.read(history, profile=profile, dates=dates)
        had = [asker.like(title) for title in titles]
        shown, popular = asker.recommend(count), asker.popular(CLOSE)
        near = [] if history is not None else list(zip(had, titles, strict=True))[:NEAR]
        close = {title: asker.similar(given, CLOSE) for title, given in near}
    privacy = " · ".join(part for part in (stamp(result.summary), epsilon_line(result.summary)) if part)
    console.print(Text(clean(f"{run}: {privacy}"), style="dim"))
    console.print()
    console.print(Text(clean(f"for {'; '.join([*([read] if read else []), *had])}")))
    rows = [{"title": each.title or each.item, "reason": each.reason, "held_out": False} for each in shown]
    console.print(listed(rows))
    console.print()
    for title, others in close.items():
        console.print(Text(clean(f"close to {title}: {'; '.join(others)}")))
    if popular:
        console.print(Text(clean(f"most popular: {'; '.join(popular)}"), style="dim"))
