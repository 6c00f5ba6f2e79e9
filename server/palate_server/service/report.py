"""Report: all that is said of a server, once: `palate serve status`, its JSON and the operator's page show the same.

    ledger, register, events, progress, problems, surveys -> read_report(site) -> its lines, or its values
                                                             operator_page(site) -> the same as an HTML file

It is read from the server folder's files, whether the server runs or not. Devices are in it as numbers of devices.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from palate_server.folder.events import EventLog, EventSummary, at, told_reason
from palate_server.folder.profiles import TRIAL, TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.operation.outlook import Outlook, local, read_outlook
from palate_server.operation.survey_results import latest_results
from palate_server.rounds.progress import ActivityFile, ServerActivity
from palate_server.service.problems import ServerProblem, problems
from palate_server.service.status import Status, read_status

STYLE = (files("palate_server.service") / "templates" / "page.css").read_text(encoding="utf-8")
PAGE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""The page's content security policy: nothing is loaded, and no script runs."""
NEEDED = {"witness": "witness_unwritable", "witnesses": "witnesses_missing"}
"""What a server needs beside its processes, and the problem that says it lacks it."""


@dataclass(frozen=True)
class ServerReport:
    """The state of a server.

    Attributes:
        status: what is in ledger and register.
        outlook: what is due.
        parts: part -> whether it is `good`, and `since` when it runs; empty: the server doesn't run.
        problems: what is wrong, the worst first.
        activity: the cohort that gathers, and the attempt that goes on.
        surveys: results of the latest surveys, newest first, as `read_result` has them.
    """

    status: Status
    outlook: Outlook
    parts: Mapping[str, Mapping[str, Any]]
    problems: tuple[ServerProblem, ...]
    activity: ServerActivity
    surveys: Sequence[Mapping[str, Any]]

    @property
    def verdict(self) -> tuple[str, str]:
        """How it is: "good", "watch", "act" or "off", and the words for it."""
        worst = {each.severity for each in self.problems}
        if not self.parts:
            return "off", "Not running"
        if "error" in worst:
            return "act", "Needs you"
        if not all(part["good"] for part in self.parts.values()):
            return "watch", "Starting"
        return ("watch", "Runs, with a warning") if "warning" in worst else ("good", "All is well")

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        told = {**self.status.as_dict(), **self.outlook.as_dict(), "parts": {**self.parts}}
        told["activity"] = self.activity.model_dump()
        return {**told, "surveys": [*self.surveys], "problems": [asdict(each) for each in self.problems]}

    def sections(self) -> dict[str, list[str]]:
        """Heading -> its lines."""
        return {
            "Server": [*self._standing(), *self._running()],
            "Now": [*self._now()],
            "Ledger and models": [*self._kept()],
        }

    def _standing(self) -> Iterator[str]:
        """Enrolled devices, and what the ledger's claims rest on."""
        found = self.status
        if found.profile == TRIAL:
            yield TRIAL_WORDS
        count = found.devices
        yield (
            f"population {found.population} · {count['enrolled']:,} enrolled, "
            f"of which {count['quarantined']:,} quarantined "
            f"and {count['named']:,} named · {count['revoked']:,} revoked · {count['left']:,} left · "
            f"{count['invitations']:,} open invitations"
        )
        if found.profile is not None:
            yield f"profile: {found.profile}; what follows from it, and why: palate serve config"
        yield from (f"before it serves: {each}" for each in found.missing)
        yield f"release key: {found.release_key}"
        asked = found.witnesses
        yield f"ledger, for witnesses: {asked['log']}"
        if asked["names"]:
            size = "nothing yet" if asked["size"] is None else f"size {asked['size']} last"
            yield (
                f"witnesses: {asked['needed']} of {len(asked['names'])} must cosign, {size}: "
                f"{', '.join(asked['names'])}"
            )

    def _running(self) -> Iterator[str]:
        """The running parts; what isn't good and no error is starting."""
        bad = "NOT GOOD" if any(each.severity == "error" for each in self.problems) else "starting"
        if not self.parts:
            yield "parts: nobody answers on the metrics port: `palate serve run` isn't running, or is starting"
        for part, each in self.parts.items():
            yield f"{part}: {'good' if each['good'] else bad}, since {each['since'] or 'long ago'}"

    def _now(self) -> Iterator[str]:
        """What is spent, what is due, and what goes on."""
        found, period, due = self.status, self.outlook.period, self.outlook.next_run
        yield (
            f"ε {found.epsilon_spent:.3f} of {found.epsilon_lifetime:g} spent for ever, {period['epsilon']:.3f} of "
            f"{period['epsilon_limit']:g} in the period until {period['until']} (δ = {found.delta:g}, unit: user, "
            "adjacency: zero-out, accountant: palate closed form)"
        )
        yield (
            f"in μ², which adds up as ε doesn't: {found.mu2_spent:.4g} of {found.mu2_lifetime:.4g} for ever, "
            f"{period['mu2']:.4g} of {period['mu2_limit']:.4g} in the period"
        )
        yield f"now: {self.outlook.now} · one more run could have ε {due['epsilon']:.3f}"
        yield f"next run: {due['at'] or 'not by itself'} ({due['why']})"
        if (gathering := self.activity.gathering) is not None:
            until = f"{datetime.fromtimestamp(gathering.until, UTC).astimezone():%H:%M:%S}"
            yield (
                f"a cohort gathers: {gathering.here:,} of {gathering.enough:,} devices are here; "
                f"{gathering.least:,} will do at {until}"
            )
        if (attempt := self.activity.attempt) is not None:
            what = "a survey" if attempt.survey else f"round {attempt.round + 1}"
            yield f"an attempt at {what} goes on, with {attempt.invited:,} invited devices"

    def _kept(self) -> Iterator[str]:
        """The contents of ledger and disk."""
        found = self.status
        yield f"ledger: {found.ledger['size']} entries, root {found.ledger['root']}, {found.epochs} restorations"
        yield f"attempts: {found.attempts} charged, {found.releases} released"
        yield from (f"run {run}: {state}" for run, state in found.runs.items())
        for model in found.models:
            count = f"{model['releases']} release{'' if model['releases'] == 1 else 's'}"
            yield f"model version {model['version']}: {count}, run {model['run'] or 'none'}"


def read_report(site: Site, *, now: float, parts: Mapping[str, bool] | None) -> ServerReport:
    """Read the state of a server folder.

    Args:
        site: the server folder.
        now: seconds since 1970.
        parts: part -> whether it runs, as `/ready` says; None: the server doesn't answer.

    Raises:
        PalateError: one of its files is invalid.
    """
    told = EventSummary(site.events).follow()
    found = problems(site, now=now, parts=parts, told=told)
    wrong = {each.code for each in found}
    needed = {
        name: code not in wrong for name, code in NEEDED.items() if name == "witness" or site.config.witnesses.keys
    }
    there = {} if parts is None else {**parts, **needed}
    alive = parts is not None and parts.get("serverapp", True)  # else who was about it is gone
    return ServerReport(
        status=read_status(site),
        outlook=read_outlook(site, now=now, told=told),
        parts={part: {"good": good, "since": _since(told, part)} for part, good in there.items()},
        problems=found,
        activity=ActivityFile(site.progress_file).read() if alive else ServerActivity(),
        surveys=latest_results(site),
    )


def _since(told: EventSummary, part: str) -> str | None:
    """Since when a part is as it is; of one of which nothing is told, since the server's start."""
    event = told.began.get(part, told.began.get(""))
    return None if event is None else local(at(event))


def operator_page(site: Site, *, now: float, parts: Mapping[str, bool] | None) -> str:
    """Make the operator's page of a server folder: the report, with figures of surveys and the latest events.

    **Guarantees:** nothing that tells devices apart: the page has numbers of devices only.

    Args:
        site: the server folder.
        now: seconds since 1970.
        parts: part -> whether it runs; None: the server doesn't.

    Raises:
        PalateError: one of its files is invalid.
    """
    report = read_report(site, now=now, parts=parts)
    spent, period = report.status, report.outlook.period
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=site.config.population,
            trial=site.config.trial,
            report=report,
            budgets=(
                ("period", period["mu2"], period["mu2_limit"]),
                ("lifetime", spent.mu2_spent, spent.mu2_lifetime),
            ),
            events=[
                (event["at"], event["event"], told_reason(event)) for event in EventLog(site.events).latest()[::-1]
            ],
        )
    )


@cache
def _environment() -> Environment:
    """The template: what is undefined is an error, and every text is escaped."""
    made = Environment(
        loader=PackageLoader("palate_server.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"style": STYLE, "policy": PAGE_POLICY, "trial_words": TRIAL_WORDS}
    return made
