"""`palate.audit`: look for evidence against a privacy claim, from Python or a notebook."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from palate_common.extras import to_install
from palate_common.keywords import says_which
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_audit.auditing import AuditResult
    from palate_audit.harness.target import Target
    from palate_audit.targets.function import Mechanism


@says_which("palate.audit")
def audit(
    target: Mechanism | Target | str | PathLike[str] | None = None,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    clip_norm: float | None = None,
    noise_multiplier: float | None = None,
    dimension: int | None = None,
    runs: int | None = None,
    seed: int | None = None,
    budget: float | None = None,
    progress: bool | None = None,
) -> AuditResult:
    """Look for evidence against a privacy claim (unit: user, adjacency: zero-out).

    Args:
        target: a function `mechanism(data, rng)` of an array [users, dimension] that returns the array it would
            publish; an object with the members of `palate_audit.Target`; the folder of a finished run; "palate" or
            None: the round that Palate's own runs go through.
        epsilon: the claim for one user; for Palate's round 5 by default.
        delta: the claim's delta; for Palate's round 1e-6 by default.
        clip_norm: for a function: the largest norm with which a row counts; 1 by default.
        noise_multiplier: for a function that returns the sum of clipped rows plus Gaussian noise: the noise's standard
            deviation over `clip_norm`. With it the audit finds far smaller faults.
        dimension: for a function: length of a row.
        runs: for a function: how often it runs.
        seed: of the audit's choices and of `rng`; by default a fresh one.
        budget: for a function or a Target: seconds after which it isn't run any more; 300 by default.
        progress: show how far it is on stderr; by default on a terminal and in a notebook.

    Returns:
        `verdict`, `epsilon` (a lower bound), `findings`, `bounds`, and `report(path)`.

    Raises:
        InputError: arguments don't fit together, or the extra `simulations` is missing.
    """
    # The device core must not load what an audit needs.
    try:
        from palate_audit import auditing
    except ModuleNotFoundError as error:
        raise InputError(f"`palate.audit` needs {error.name}: {to_install('simulations')}") from None
    return auditing.audit(
        target, epsilon=epsilon, delta=delta, clip_norm=clip_norm, noise_multiplier=noise_multiplier,
        dimension=dimension, runs=runs, seed=seed, budget=budget, progress=progress,
    )  # fmt: skip
