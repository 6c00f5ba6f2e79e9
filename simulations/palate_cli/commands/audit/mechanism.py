"""`palate audit mechanism`: canaries test the production round."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from palate_cli.commands.audit.outcome import Json, Out, check_out, conclude
from palate_core.errors import InputError

Mode = Annotated[
    str | None,
    typer.Option("--dp", metavar="MODE", help="Palate's round: distributed (default), central, both, or local."),
]
Epsilon = Annotated[
    float, typer.Option(metavar="E", help="Epsilon of the audited run: user-level, zero-out adjacency.")
]
Delta = Annotated[float, typer.Option(metavar="D", help="Its delta.")]
Deep = Annotated[bool, typer.Option("--deep", help="More runs, for smaller faults.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Every test, with fewer seeds and fresh releases, in two thirds of the time.")
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="S", help="Seed of the audit's choices, never of noise. Default: a fresh one, printed."),
]
Run = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="A run, whose sources must be the audited ones.")
]
MODES = ("distributed", "central", "local")
BOTH = MODES[:2]
MOST = 100.0


def mechanism(
    dp: Mode = None,
    epsilon: Epsilon = 5.0,
    delta: Delta = 1e-6,
    deep: Deep = False,
    quick: Quick = False,
    seed: Seed = None,
    run: Run = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run Palate's round with canaries, and test what it releases; for other mechanisms there is `palate.audit`."""
    from palate_audit.harness.production import Production
    from palate_audit.run.mechanism import audit_mechanism
    from palate_core.accounting import check_delta, check_epsilon

    check_out(out)
    if deep and quick:
        raise InputError("--deep and --quick are two speeds: give one of them")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"`--seed` must be a whole number from 0, got {seed}")
    chosen = secrets.randbelow(2**31) if seed is None else seed
    if dp not in (None, "both", *MODES):
        raise InputError(f"`--dp` must be {', '.join(MODES)} or both, got {dp!r}")
    modes = BOTH if dp == "both" else (dp or MODES[0],)
    if check_epsilon(epsilon) > MOST:
        raise InputError(f"`--epsilon` must be at most {MOST:g}, got {epsilon:g}: that is no privacy to test")
    targets = [Production(dp=mode, epsilon=epsilon, delta=check_delta(delta)) for mode in modes]
    section = audit_mechanism(*targets, seed=chosen, deep=deep, quick=quick, run=run)
    conclude([section], out=out, as_json=as_json, seed=chosen)
