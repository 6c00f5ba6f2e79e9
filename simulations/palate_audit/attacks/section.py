"""Section: runs every attack on one run folder, and gives the findings their verdicts together.

Path("runs/one") -> load_subject -> attacks -> Section of findings, bounds, tables and ROC curves
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate_audit.attacks import interaction, membership
from palate_audit.attacks.measured import HEADER, Found, Measured
from palate_audit.attacks.subject import Subject, load_subject
from palate_audit.evidence.claim import stated
from palate_audit.evidence.evidence import Section, judge
from palate_audit.evidence.series import roc
from palate_core.errors import InputError

ATTACKS = ("interaction", "membership")
"""The attacks that can be chosen."""
USERS, REPEATS = 200, 20
ASSUMPTIONS = (
    "Unit: user; adjacency: zero-out. The ceiling bounds attacks that tell a user's events from none, by whoever sees "
    "all releases and knows all other users. Between two histories of which neither is empty it is that of 2 mu.",
    "Games with fresh noise play the run's own releases again: its public states, plans, sigma and cohort, and the "
    "production functions for contributions, clip and noise. Each trial has a draw of its own, so that Clopper-Pearson "
    "intervals hold.",
    "The run's own releases are one sample: its trials share one noise. Their verdict is by the energy of that noise "
    "along users' contributions, which has a chi-square law under the claim.",
    "An alarm needs counts whose confidence bounds are above the ceiling, at the family-wise alpha. An attack that "
    "stays below shows no more than that: a better one may come.",
    "Against the server, central and distributed without masks claim nothing: their rows show what masks are for. With "
    "local, what each device sends is under the same ceiling as the releases.",
)

Notify = Callable[[str], None]


def audit_attacks(
    path: Path,
    *,
    attacks: Collection[str] = ATTACKS,
    users: int = USERS,
    repeats: int = REPEATS,
    seed: int = 0,
    notify: Notify = lambda _: None,
) -> Section:
    """Attack a run folder, which is only read.

    Args:
        path: of a finished run.
        attacks: which of `ATTACKS`.
        users: number of target users.
        repeats: games with fresh noise a target.
        seed: of the choice of targets and items; noise is always fresh.
        notify: called with messages on the progress.

    Raises:
        InputError: no finished run, its data is not there, or a number out of range.
        IntegrityError: its files are not as they were signed.
    """
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown or not attacks:
        raise InputError(f"`--attack` must be among {', '.join(ATTACKS)}, got {', '.join(unknown) or 'none'}")
    for name, value, least in (("users", users, 10), ("repeats", repeats, 4), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"`--{name}` must be at least {least}, got {value}")
    subject, found = load_subject(path), Found()
    if not subject.data.train.nnz:
        raise InputError("the attacks need a user with an interaction, got none")
    rng = np.random.default_rng([seed, 11])
    rows = np.sort(rng.permutation(subject.users)[:users])
    if "interaction" in attacks:
        notify("interaction membership")
        pairs = interaction.draw_pairs(subject.data.train.users(rows), subject.data.train, rng)
        if pairs.inside.any():
            found.add(interaction.attack(subject, pairs, repeats=repeats))
    if "membership" in attacks:
        notify("user membership")
        targets = subject.data.train.users(rows)
        groups = {name: tuple(labels[row] for row in rows) for name, labels in subject.data.groups.items()}
        segments = membership.segments_of(targets, groups)
        found.add(membership.attack(subject, targets, segments, repeats=repeats))
    return _section(subject, found, users=len(rows), repeats=repeats)


def _section(subject: Subject, found: Found, *, users: int, repeats: int) -> Section:
    terms, claim = subject.terms, "nothing is claimed (dp off)"
    if subject.mu is not None:
        claim = f"epsilon {subject.epsilon:.4g}, delta {terms.delta:g}, mu {subject.mu:.4g}; unit: user, zero-out"
    masks = "" if terms.cohort is None else f", masks {'on' if terms.cohort.masks else 'off'}"
    sizes = f"{subject.users:,} users, {len(subject.releases)} releases, dp {terms.dp.value}{masks}"
    return Section(
        "attacks",
        f"{subject.path.resolve().name}: {sizes}; {claim}",
        judge(found.findings),
        tuple(found.bounds),
        (*ASSUMPTIONS, f"Raw data from {subject.data.found}; {users} target users, {repeats} repeats."),
        {
            "facts": {"target users": users, "repeats": repeats},
            "claim": stated(terms, subject.epsilon),
            "tables": _by_attack(found.rows),
            "roc": [roc(f"{row.attack}: {row.sees}", *row.curve, mu=row.mu) for row in found.rows if row.drawn],
            "measured": [row.facts() for row in found.rows],
        },
    )


def _by_attack(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    names = dict.fromkeys(row.attack for row in rows)
    return [
        {
            "title": f"{name}; knows {next(row.knows for row in reversed(rows) if row.attack == name)}",
            "header": list(HEADER),
            "rows": [row.cells() for row in rows if row.attack == name],
        }
        for name in names
    ]
