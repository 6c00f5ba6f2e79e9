"""`palate audit mutants`: proof that the audit would have caught a broken mechanism."""

from __future__ import annotations

from typing import Annotated

import typer

from palate_cli.commands.audit.outcome import Json, Key, Out, check_out, conclude
from palate_core.errors import InputError

Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="NAME", help="This mutant; may be given again. Default: all.")
]
Clean = Annotated[
    int | None,
    typer.Option(metavar="N", help="Runs of the real code, none of which may raise an alarm. Default 3."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Run only the test that each mutant names.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Processes. Default: one a processor.")]


def mutants(
    only: Only = None,
    clean: Clean = None,
    quick: Quick = False,
    workers: Workers = None,
    out: Out = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Put known bugs into the production path, one after another, and see which test finds each."""
    from palate_audit.mutants.mutation_testing import CLEAN, MutantOutcome, audit_mutants

    check_out(out, key)
    runs = CLEAN if clean is None else clean
    if runs < 0 or (workers is not None and workers < 1):
        raise InputError(f"`--clean` must be from 0 and `--workers` from 1, got {clean} and {workers}")

    def notify(outcome: MutantOutcome) -> None:
        found = ", ".join(outcome.killed_by) or "no test"
        typer.echo(f"{outcome.name}: {found}", err=True)

    section = audit_mutants(only or (), clean=runs, quick=quick, workers=workers, notify=notify)
    conclude([section], out=out, key=key, as_json=as_json)
