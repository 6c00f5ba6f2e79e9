"""`palate serve status` and `operators`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from palate_server.folder.server_folder import Site
    from palate_server.operation.outlook import Outlook
    from palate_server.service.problems import ServerProblem
    from palate_server.service.status import Status

Asked = tuple["Status", "Outlook", dict[str, dict[str, Any]], "tuple[ServerProblem, ...]"]
"""What a server's status is told from: ledger and register, what is due, its parts, and what is wrong."""


def status(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print a server's status, whether it runs or not: who is enrolled, what was spent, what is due."""
    from palate_server.folder.server_folder import Site

    found, outlook, parts, wrong = ask(Site.at(folder))
    if as_json:
        told = {**found.as_dict(), **outlook.as_dict(), "parts": parts, "problems": [each.as_dict() for each in wrong]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    lines = [*_wrong(wrong), *_standing(found, outlook, folder), *_running(parts, outlook, wrong), *_kept(found)]
    typer.echo("\n".join(lines))


def operators(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The server folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines: the lines as they are.")] = False,
) -> None:
    """Print which account gave which command to a folder, and check that the record only grew."""
    from palate_server.folder.operators import OperatorLog
    from palate_server.folder.server_folder import Site

    if not (folder / "server.toml").is_file():
        Site.at(folder)  # refuses it
    found = OperatorLog(folder).read()
    for each in found:
        if as_json:
            typer.echo(json.dumps(each, ensure_ascii=False))
            continue
        who = f"{each.get('user', '?')} (sudo: {each['sudo']})" if each.get("sudo") else each.get("user", "?")
        told = " ".join(f"{key}={value}" for key, value in each.get("arguments", {}).items())
        typer.echo(f"{each.get('at', '?')} {who}: {' '.join(filter(None, (each['command'], told)))}: {each['outcome']}")
    if not as_json:
        typer.echo(f"{len(found)} lines, each after the one before")


def ask(site: Site) -> Asked:
    """Ask a server folder, and its processes if they run."""
    from palate_server.folder.events import EventFollower
    from palate_server.operation.outlook import read_outlook, since
    from palate_server.service.metrics import read_health, read_problems
    from palate_server.service.problems import KINDS
    from palate_server.service.status import read_status

    began, now = since(EventFollower(site.events).news()), time.time()
    health = {part: good for part, good in read_health(site).items() if part not in KINDS}
    parts = {part: {"good": good, "since": began.get(part, began.get(""))} for part, good in health.items()}
    return read_status(site), read_outlook(site, now=now), parts, read_problems(site, now=now)


def _wrong(problems: Iterable[ServerProblem]) -> Iterator[str]:
    """What is wrong, the worst first, each with what to do."""
    for each in problems:
        since = f" (since {each.since})" if each.since else ""
        yield f"{each.severity.upper()} {each.code}: {each.said}{since}\n  {each.act}"


def _standing(found: Status, outlook: Outlook, folder: Path) -> Iterator[str]:
    """Enrolled devices, spent budget, and the next events."""
    from palate_server.folder.profiles import TRIAL, TRIAL_WORDS

    period, due = outlook.period, outlook.next_run
    if found.profile == TRIAL:
        yield TRIAL_WORDS
    count = found.devices
    yield (
        f"population {found.population} · {count['enrolled']:,} enrolled, "
        f"of which {count['quarantined']:,} quarantined "
        f"and {count['named']:,} named · {count['revoked']:,} revoked · {count['left']:,} left · "
        f"{count['invitations']:,} open invitations"
    )
    if len(found.superlinks) > 1:
        yield f"SuperLinks: {', '.join(f'{count:,} devices at {place}' for place, count in found.superlinks.items())}"
    if found.profile is not None:
        yield f"profile: {found.profile}; what follows from it, and why: palate serve config {folder}"
    yield from (f"before it serves: {each}" for each in found.missing)
    yield f"release key: {found.release_key}"
    asked = found.witnesses
    yield f"ledger, for witnesses: {asked['log']}"
    if asked["names"]:
        size = "nothing yet" if asked["size"] is None else f"size {asked['size']} last"
        yield f"witnesses: {asked['needed']} of {len(asked['names'])} must cosign, {size}: {', '.join(asked['names'])}"
    yield (
        f"ε {found.epsilon_spent:.3f} of {found.epsilon_lifetime:g} spent for ever, {period['epsilon']:.3f} of "
        f"{period['epsilon_limit']:g} in the period until {period['until']} (δ = {found.delta:g}, unit: user, "
        "adjacency: zero-out, accountant: palate closed form)"
    )
    yield (
        f"in μ², which adds up as ε doesn't: {found.mu2_spent:.4g} of {found.mu2_lifetime:.4g} for ever, "
        f"{period['mu2']:.4g} of {period['mu2_limit']:.4g} in the period"
    )
    yield f"now: {outlook.now} · one more run could have ε {due['epsilon']:.3f}"
    yield f"next run: {due['at'] or 'not by itself'} ({due['why']})"


def _running(parts: Mapping[str, Mapping[str, Any]], outlook: Outlook, wrong: Iterable[ServerProblem]) -> Iterator[str]:
    """The running parts, and the latest errors; what isn't good and no error is starting."""
    bad = "NOT GOOD" if any(each.severity == "error" for each in wrong) else "starting"
    if not parts:
        yield "parts: nobody answers on the metrics port: `palate serve run` isn't running, or is starting"
    for part, each in parts.items():
        yield f"{part}: {'good' if each['good'] else bad}, since {each['since'] or 'long ago'}"
    yield from _trouble(outlook)


def _trouble(outlook: Outlook) -> Iterator[str]:
    """The latest trouble, if there was any, and what to do."""
    if (trouble := outlook.trouble) is not None:
        over = "; a round was released since" if trouble["over"] else ""
        yield f"latest trouble: {trouble['at']} {trouble['event']}{over}: {trouble['reason']}\n  {trouble['do']}"


def _kept(found: Status) -> Iterator[str]:
    """The contents of ledger and disk."""
    yield f"ledger: {found.ledger['size']} entries, root {found.ledger['root']}, {found.epochs} restorations"
    yield f"attempts: {found.attempts} charged, {found.releases} released"
    yield from (f"run {run}: {state}" for run, state in found.runs.items())
    for model in found.models:
        count = f"{model['releases']} release{'' if model['releases'] == 1 else 's'}"
        yield f"model version {model['version']}: {count}, run {model['run'] or 'none'}"
