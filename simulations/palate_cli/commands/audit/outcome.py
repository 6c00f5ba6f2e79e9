"""The end of every `palate audit` command: the findings on the terminal, in `--out`, and as an exit code.

    0  nothing exceeds the claim; what could not be checked is named
    2  bad input
    4  the evidence exceeds the claim

A command makes its sections and calls `conclude(sections, out=out, key=key, as_json=as_json)`.
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
from palate_common.records.key_file import load_key, save_key
from palate_core.errors import EvidenceError, InputError, IntegrityError
from palate_core.log.signing import SigningKey
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
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="With --out: sign the report with this key, the auditor's own; it is made if there is no such file.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")]

_LOOK = {Verdict.PASS: "green", Verdict.ALARM: "bold red", Verdict.UNCHECKABLE: "yellow"}


def conclude(
    sections: Sequence[Section], *, out: Path | None, key: Path | None = None, as_json: bool, **chosen: int
) -> None:
    """Print what was found and write the report.

    Args:
        sections: the parts that the command made.
        out: where the report goes.
        key: the auditor's key file, which signs it.
        as_json: print JSON.
        chosen: options that the command chose itself, such as a seed: they belong to the command that repeats it.

    Raises:
        EvidenceError: some finding is an alarm; everything was printed and written before.
        InputError: `out` can't be written, or holds something else than an audit.
    """
    about = made(chosen)
    sections = [replace(section, series={**section.series, "made": about}) for section in sections]
    written = None if out is None else _add(sections, out, key)
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
    """How a part was made: the command that repeats it, when, and by which code."""
    found = versions()
    told: dict[str, Any] = {
        name: found[name] for name in ("palate", "commit", "python", "environment") if name in found
    }
    return {
        "command": _command(chosen),
        "created": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
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
        if each.name in ("out", "key", "as_json") or value in (None, False, each.default, ()):
            continue
        flag = [] if isinstance(each, click.Argument) else [each.opts[0]]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [*flag, *([] if one is True else [str(one)])]
    return shlex.join(words)


def check_out(out: Path | None, key: Path | None = None) -> None:
    """Refuse a path that can't take a report, before a long audit begins.

    Raises:
        InputError: it is in another kind of folder, or is another kind of file; or the key isn't the one that signed
            what is there.
    """
    if out is None and key is not None:
        raise InputError("`--key` must be given with --out: it signs the report that is written there")
    if out is not None:
        data = _files(out)[1]
        _before(data)
        _check_signer(data, _key(key))


def _key(path: Path | None) -> SigningKey | None:
    """The auditor's key, made if there is none; None without a path."""
    if path is None:
        return None
    if not path.exists():
        save_key(SigningKey.generate(), path)
    return load_key(path)


def _check_signer(data: Path, key: SigningKey | None) -> None:
    """Refuse to sign parts that somebody else made: a signature is for all of the report."""
    if key is None or not data.exists():
        return
    try:
        own = document.signer(data.read_bytes()) == key.public
    except IntegrityError:
        own = False
    if not own:
        raise InputError(f"`--key` must be the one that signed the parts that are there, and didn't: {data}")


def _add(sections: Sequence[Section], out: Path, key_file: Path | None) -> Path:
    """Write the page and its JSON, keeping the parts that were there; return the page's path."""
    from palate_audit.report.page import render

    page, data = _files(out)
    key = _key(key_file)
    _check_signer(data, key)
    parts = document.together(_before(data), sections)
    shown = render(parts, signer=None if key is None else key.public).encode()
    text = document.write(parts, page=shown, key=key)
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
