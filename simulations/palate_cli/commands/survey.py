"""`palate survey`: the weekly survey of a server's devices, and its results."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate_cli.commands.serve.folder import Folder
from palate_core.accounting import mu_of
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_common.survey import Survey
    from palate_server.folder.server_folder import Site

app = typer.Typer(help="Surveys of a server: figures for the operator, and what they cost.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For machines.")]


@app.command()
def plan(folder: Folder, as_json: Json = False) -> None:
    """Print the next survey: its questions, their noise, its cost, and what is left. No device is asked."""
    from palate_server.folder.server_folder import Site
    from palate_server.operation.surveys import check, due_at, is_asked, week_before

    site, now = Site.at(folder), time.time()
    with site.ledger(read_only=True) as ledger:
        week = week_before(now)
        if is_asked(ledger, week):
            week = week_before(due_at(week) + 7 * 86_400.0)
        survey = site.config.surveys.survey(week)
        check(site.config, survey, ledger, now=max(now, due_at(week)))
        found = {
            "week": week,
            "due": datetime.fromtimestamp(due_at(week), UTC).isoformat(),
            "scheduled": site.config.surveys.weekly,
            **_price(site, spent=ledger.spent()),
            "blocks": _blocks(site, survey),
            "looks": {name: list(weeks) for name, weeks in survey.looks.items()},
        }
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    state = "scheduled" if found["scheduled"] else "not scheduled: `surveys.weekly` is false"
    typer.echo(f"survey of the week of {week}, due {found['due']} ({state})")
    typer.echo(
        f"ε {found['epsilon']:.3f} a week, {found['yearly_epsilon']:.2f} a year of them (δ = {found['delta']:g}, unit: "
        "user (one installation), adjacency: zero-out, accountant: palate closed form)"
    )
    typer.echo(f"the lifetime budget has room for {found['weeks_left']} more")
    rows = [(each["block"], each["questions"], f"{each['share']:.3f}", f"{each['noise']:.1f}", f"{each['told']:.0f}")
            for each in found["blocks"]]  # fmt: skip
    _table(("block", "questions", "share", "noise", "told from"), rows)
    for name, weeks in found["looks"].items():
        typer.echo(f"test {name}: looked at after {', '.join(weeks)}")


@app.command()
def result(
    folder: Folder,
    week: Annotated[str | None, typer.Option(metavar="MONDAY", help="Which week; the latest when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Print a survey's results, made again from its sealed release, and keep them, signed."""
    from palate_server.folder.server_folder import Site
    from palate_server.operation.survey_results import result_of, write_result

    site = Site.at(folder)
    with site.ledger(read_only=True) as ledger:
        found = result_of(site, ledger, week)
    path = write_result(site, found)
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    cost = found["cost"]
    if found.get("trial"):
        typer.echo("TRIAL: of a server that is only tried out")
    typer.echo(f"week of {found['week']} · population {found['population']} · run {found['run']}")
    typer.echo(
        f"ε {cost['epsilon']:.3f} this week, {cost['surveys_epsilon']:.2f} all surveys so far, "
        f"{cost['yearly_epsilon']:.2f} a year of them (δ = {cost['delta']:g}, unit: {cost['unit']}, adjacency: "
        f"{cost['adjacency']}, accountant: {cost['accountant']}; dp {cost['dp']})"
    )
    _table(("figure", "of", "value", "95 % interval"), [_row(each) for each in found["figures"]])
    for name, test in found["tests"].items():
        typer.echo(f"test {name} of {test['outcome']}: {_compared(test)}")
    typer.echo(f"kept: {path}")


def _price(site: Site, *, spent: float) -> dict[str, Any]:
    """The cost of a survey, and how many more the lifetime budget allows."""
    from palate_server.rounds.terms import noise_delta
    from palate_server.surveys.analytics import cost

    privacy = site.config.privacy
    delta = noise_delta(privacy.dp, privacy.delta)
    mu = mu_of(epsilon=site.config.surveys.epsilon, delta=delta)
    week = cost(mu=mu, delta=delta)
    left = mu_of(epsilon=privacy.lifetime_epsilon, delta=delta) ** 2 - spent
    return {
        "epsilon": week.epsilon,
        "yearly_epsilon": week.yearly,
        "delta": privacy.delta,
        "weeks_left": max(0, math.floor(left / mu**2 * (1 + 1e-9))),
    }


def _blocks(site: Site, survey: Survey) -> list[dict[str, Any]]:
    """Each block's share, the noise of one of its totals, and the smallest group that is reported."""
    from palate_server.rounds.terms import noise_delta
    from palate_server.surveys.analytics import LEAST

    privacy = site.config.privacy
    mu = mu_of(epsilon=site.config.surveys.epsilon, delta=noise_delta(privacy.dp, privacy.delta))
    made = []
    for block in survey.blocks():
        noise = block.norm / (mu * math.sqrt(survey.share_of(block.name)))
        made.append(
            {"block": block.name, "questions": len(block.questions), "share": survey.share_of(block.name),
             "noise": noise, "told": max(LEAST, 4 * noise)}
        )  # fmt: skip
    return made


def _row(figure: dict[str, Any]) -> tuple[str, str, str, str]:
    if figure["value"] is None:
        return figure["name"], figure["of"], "suppressed", "group too small"
    return (
        figure["name"],
        figure["of"],
        _number(figure["value"]),
        f"{_number(figure['low'])} – {_number(figure['high'])}",
    )


def _compared(test: dict[str, Any]) -> str:
    """The result of a test, in words."""
    found, looks = test["found"], test["looks"]
    if found is None:
        return "suppressed: an arm is too small"
    said = "different" if not found["low"] <= 0 <= found["high"] else "no difference shown"
    reach = f"{found['low']:+.4f} – {found['high']:+.4f}"
    return (
        f"B - A {found['difference']:+.4f}, {found['confidence']:.2%} interval {reach}, "
        f"p {found['p_value']:.3g}: {said} ({len(looks)} registered look{'s' * (len(looks) > 1)})"
    )


def _number(value: float) -> str:
    """A count without decimals, a share with three."""
    return f"{value:,.0f}" if abs(value) > 2 else f"{value:.3f}"


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        raise InputError("a survey must ask something, got no block")
    cells = [tuple(str(each) for each in row) for row in (header, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(header))]
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
