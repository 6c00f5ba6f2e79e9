"""`palate audit mechanism`: canaries test the production round, or a foreign mechanism."""

from __future__ import annotations

import math
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
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="MODULE:FACTORY",
        help="A foreign mechanism, which the factory makes. Modules of the current folder are found.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="With --target: when it isn't run any more. Default 300."),
]
Epsilon = Annotated[
    float | None,
    typer.Option(metavar="E", help="Epsilon of the audited run: user-level, zero-out adjacency. Default 5."),
]
Delta = Annotated[float | None, typer.Option(metavar="D", help="Default 1e-6.")]
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
    target: Target = None,
    budget: Budget = None,
    epsilon: Epsilon = None,
    delta: Delta = None,
    deep: Deep = False,
    quick: Quick = False,
    seed: Seed = None,
    run: Run = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run a mechanism with canaries, and test what it releases."""
    from palate_audit.harness.production import Production
    from palate_audit.harness.target import Target as Audited
    from palate_audit.harness.target import load_target
    from palate_audit.run.mechanism import audit_mechanism
    from palate_core.accounting import check_delta, check_epsilon
    from palate_sim.progress import Progress

    check_out(out)
    if deep and quick:
        raise InputError("--deep and --quick are two speeds: give one of them")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"`--seed` must be a whole number from 0, got {seed}")
    chosen = secrets.randbelow(2**31) if seed is None else seed
    if budget is not None and (target is None or not 0 < budget < math.inf):
        raise InputError("`--budget` must be seconds above 0, with --target")
    targets: list[Audited] = []
    if target is not None:
        if (dp, epsilon, delta, run) != (None, None, None, None):
            raise InputError("`--target` comes with its own claim: leave out --dp, --epsilon, --delta and --run")
        targets.append(load_target(target))
    else:
        if dp not in (None, "both", *MODES):
            raise InputError(f"`--dp` must be {', '.join(MODES)} or both, got {dp!r}")
        modes = BOTH if dp == "both" else (dp or MODES[0],)
        asked = check_epsilon(5.0 if epsilon is None else epsilon), check_delta(1e-6 if delta is None else delta)
        if asked[0] > MOST:
            raise InputError(f"`--epsilon` must be at most {MOST:g}, got {asked[0]:g}: that is no privacy to test")
        targets += [Production(dp=mode, epsilon=asked[0], delta=asked[1]) for mode in modes]
    seconds = 300.0 if budget is None else budget
    with Progress(quiet=as_json or target is None) as notify:
        section = audit_mechanism(*targets, seed=chosen, deep=deep, quick=quick, run=run, budget=seconds, notify=notify)
    conclude([section], out=out, as_json=as_json, seed=chosen)
