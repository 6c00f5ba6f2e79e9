"""The end of every `palate audit` command: the findings on the terminal, in `--out`, and as an exit code.

    0  nothing exceeds the claim; what could not be checked is named
    2  bad input
    4  the evidence exceeds the claim

A command makes its sections and calls `conclude(sections, out=out, as_json=as_json)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Section, Verdict
from palate_common.errors import EvidenceError, InputError
from palate_common.records.files import write_durably
from palate_sim.progress.wording import clean

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR|FILE",
        help="Also write the report: audit.html and audit.json in DIR, or FILE.html and FILE.json. Parts of an audit "
        "add up there.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")]

_LOOK = {Verdict.PASS: "green", Verdict.ALARM: "bold red", Verdict.UNCHECKABLE: "yellow"}


def conclude(sections: Sequence[Section], *, out: Path | None, as_json: bool) -> None:
    """Print what was found and write the report.

    Raises:
        EvidenceError: some finding is an alarm; everything was printed and written before.
        InputError: `out` can't be written, or holds something else than an audit.
    """
    # First, so that an unwritable file fails before the long part.
    written = None if out is None else _add(sections, out)
    if as_json:
        typer.echo(json.dumps([document.as_json(section) for section in sections], indent=1, ensure_ascii=False))
    else:
        console = Console()
        for section in sections:
            show(section, console)
        if written is not None:
            console.print(f"report: {escape(str(written))}", soft_wrap=True, highlight=False)
    alarms = [found for section in sections for found in section.alarms]
    if alarms:
        more = f" (and {len(alarms) - 1} more)" if len(alarms) > 1 else ""
        raise EvidenceError(f"the evidence exceeds the claim: {alarms[0].test}: {alarms[0].said}{more}")


def show(section: Section, console: Console) -> None:
    """One section on the terminal: verdicts, bounds, and what a pass assumes."""
    console.print(f"[bold]{escape(section.name)}[/]: {escape(clean(section.subject))}", soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for found in section.findings:
        said = escape(clean(found.sentence))
        table.add_row(f"[{_LOOK[found.verdict]}]{found.verdict.value}[/]", escape(found.test), said)
    console.print(table)
    if section.bounds:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("rung", "ε at least", "claimed", "ratio", "confidence", "made by"):
            table.add_column(name, justify="right" if name in ("ε at least", "claimed", "ratio") else "left")
        for bound in section.bounds:
            numbers = (f"{bound.epsilon:.4g}", f"{bound.claimed:.4g}", f"{bound.ratio:.3f}")
            table.add_row(bound.rung.value, *numbers, f"{bound.confidence:.1%}", escape(bound.name))
        console.print(table)
    for assumed in section.assumptions:
        console.print(f"assumes: {escape(clean(assumed))}", soft_wrap=True, highlight=False, style="dim")
    counts = {verdict: sum(found.verdict is verdict for found in section.findings) for verdict in Verdict}
    console.print(
        f"{counts[Verdict.PASS]} passed, {counts[Verdict.ALARM]} alarms, {counts[Verdict.UNCHECKABLE]} not checkable",
        highlight=False,
    )


def check_out(out: Path | None) -> None:
    """Refuse a path that can't take a report, before a long audit begins.

    Raises:
        InputError: it is in another kind of folder, or is another kind of file.
    """
    if out is not None:
        _before(_files(out)[1])


def _add(sections: Sequence[Section], out: Path) -> Path:
    """Write the page and its JSON, keeping the parts that were there; return the page's path."""
    from palate_audit.report.page import render

    page, data = _files(out)
    parts = document.together(_before(data), sections)
    text = document.write(parts)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_durably(page, render(parts).encode())
        write_durably(data, text)
    except OSError as error:
        raise InputError(f"`--out` must be writable, got {out}: {error.strerror}") from None
    return page


def _files(out: Path) -> tuple[Path, Path]:
    if out.suffix.lower() in (".html", ".json") and not out.is_dir():
        return out.with_suffix(".html"), out.with_suffix(".json")
    return out / "audit.html", out / "audit.json"


def _before(data: Path) -> tuple[Section, ...]:
    """The sections that a file has already."""
    try:
        return document.read(data.read_bytes()) if data.exists() else ()
    except OSError as error:
        raise InputError(f"`--out` must be readable, got {data}: {error.strerror}") from None
    except InputError:
        raise InputError(f"`--out` must be a new file or an audit's, got another one: {data}") from None
