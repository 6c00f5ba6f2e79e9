"""The end of every `palate audit` command: the findings on the terminal, in `--out`, and as an exit code.

    0  nothing exceeds the claim; what could not be checked is named
    1  a test could not run
    2  bad input
    4  the evidence exceeds the claim

A command makes its sections and calls `conclude(sections, out=out, as_json=as_json)`.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from palate_audit.evidence import document
from palate_audit.evidence.evidence import Section, Verdict
from palate_common.records.files import write_durably
from palate_core.errors import EvidenceError, InputError, PalateError
from palate_sim.cores import machine
from palate_sim.progress.wording import clean
from palate_sim.run.versions import versions

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


def conclude(sections: Sequence[Section], *, out: Path | None, as_json: bool, **chosen: int) -> None:
    """Print what was found and write the report.

    Args:
        sections: the parts that the command made.
        out: where the report goes.
        as_json: print JSON.
        chosen: options that the command chose itself, such as a seed: they belong to the command that repeats it.

    Raises:
        EvidenceError: some finding is an alarm; everything was printed and written before.
        PalateError: a test could not run.
        InputError: `out` can't be written, or holds something else than an audit.
    """
    about = made(chosen)
    sections = [replace(section, series={**section.series, "made": about}) for section in sections]
    written = None if out is None else _add(sections, out)
    if as_json:
        typer.echo(json.dumps([document.as_json(section) for section in sections], indent=1, ensure_ascii=False))
    else:
        console = Console()
        for section in sections:
            show(section, console)
        console.print(f"{about['cpu_seconds']} CPU seconds on {escape(about['machine'])}", soft_wrap=True, style="dim")
        if written is not None:
            console.print(f"report: {escape(str(written))}", soft_wrap=True, highlight=False)
    alarms = [found for section in sections for found in section.alarms]
    if alarms:
        more = f" (and {len(alarms) - 1} more)" if len(alarms) > 1 else ""
        raise EvidenceError(f"the evidence exceeds the claim: {alarms[0].test}: {alarms[0].said}{more}")
    if broken := [found for section in sections for found in section.broken]:
        raise PalateError(f"every test of an audit must run: {broken[0].test}: {broken[0].said}")


def show(section: Section, console: Console) -> None:
    """One section on the terminal: verdicts, bounds, and what a pass assumes."""
    if section.unclaimed is not None:
        said = (
            f"{section.unclaimed}. This run claims nothing, so that nothing can exceed its claim: passes say no more."
        )
        console.print(f"[bold red]{escape(clean(said))}[/]", soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(section.name)}[/]: {escape(clean(section.subject))}", soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for found in section.findings:
        said = escape(clean(found.sentence))
        word = "works" if found.control and found.verdict is Verdict.PASS else found.verdict.value
        table.add_row(f"[{_LOOK[found.verdict]}]{word}[/]", escape(found.test), said)
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
    counts, controls = section.counts, f", {section.controls} controls work" if section.controls else ""
    console.print(
        f"{counts[Verdict.PASS]} passed, {counts[Verdict.ALARM]} alarms, {counts[Verdict.UNCHECKABLE]} not checkable"
        f"{controls}",
        highlight=False,
    )


def made(chosen: Mapping[str, int]) -> dict[str, Any]:
    """How a part was made: the command that repeats it, when, where, and by which code."""
    found = versions()
    told: dict[str, Any] = {
        name: found[name] for name in ("palate", "commit", "python", "environment") if name in found
    }
    return {
        "command": _command(chosen),
        "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cpu_seconds": round(time.process_time(), 1),
        **told,
    }


def _command(chosen: Mapping[str, int]) -> str:
    """The command line that was given, without the report's own options."""
    context = click.get_current_context(silent=True)
    if context is None:
        return ""
    words = context.command_path.split()
    for each in context.command.params:
        value = chosen.get(each.name or "", context.params.get(each.name or ""))
        if each.name in ("out", "as_json") or value in (None, False, each.default, ()):
            continue
        flag = [] if isinstance(each, click.Argument) else [each.opts[0]]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [*flag, *([] if one is True else [str(one)])]
    return shlex.join(words)


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
    shown = render(parts).encode()
    text = document.write(parts, page=shown)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_durably(page, shown)
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
