"""Page: `palate serve status` as one HTML file, for the operator's browser, with the figures of surveys.

    ServerReport, the latest event of each kind -> operator_page(site, ...) -> a file without a script

**Guarantees:** nothing that tells devices apart: the page has numbers of devices only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from palate_server.folder.events import EventLog, told_reason
from palate_server.folder.profiles import TRIAL_WORDS
from palate_server.folder.server_folder import Site
from palate_server.service.report import read_report

STYLE = (files("palate_server.service") / "templates" / "page.css").read_text(encoding="utf-8")
POLICY = f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""Its content security policy: nothing is loaded, and no script runs."""


def operator_page(site: Site, *, now: float, parts: Mapping[str, bool] | None) -> str:
    """Make the page of a server folder.

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
    made.globals |= {"style": STYLE, "policy": POLICY, "trial_words": TRIAL_WORDS}
    return made
