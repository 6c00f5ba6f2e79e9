"""The noise is complete when no user is active, when devices are lost, and on coordinates that no user touches.

Rounds with secure noise and empty histories: every number that leaves is noise. Its variance is compared with the
charged one, in the release and, where devices add noise, in each node's message; so is the variance of the coordinates
that one user touches, and of those that it doesn't. A charge counts on `n_min - c_max` shares, so a sum of m must
have m / (n_min - c_max) of the charged variance, also where it is of several sub-cohorts; with `local` each device has
all of it. Messages of two nodes must not be alike.

**Assumes:** the tails of chi-square and of a sum of products, for thousands of coordinates, are those of the continuous
Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from mechanism.checks.events import every_step
from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from palate_audit.evidence.evidence import Finding
from palate_common.mechanism.update import Int64
from palate_common.rounds.wire import decode_share
from palate_core.errors import PalateError
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

TEST = "idle rounds"
WIDTH, USERS = 12_000, 14
_CENTRAL = Setting(noise=Noise.SECURE, width=WIDTH, rounds=2)
_SHARED = Setting(noise=Noise.SECURE, width=WIDTH, rounds=2, mode=DISTRIBUTED, users_per_node=1, lost=4, c_max=4)
_NODES = Setting(noise=Noise.SECURE, width=WIDTH, mode=DISTRIBUTED, users_per_node=7, c_max=4)
_LOCAL = Setting(noise=Noise.SECURE, width=WIDTH, rounds=2, mode=LOCAL, users_per_node=1)
_MASKS = Setting(noise=Noise.SECURE, width=WIDTH, mode=DISTRIBUTED, users_per_node=1, lost=4, c_max=1, masks=True)
_PARTS = Setting(noise=Noise.SECURE, width=WIDTH, mode=DISTRIBUTED, users_per_node=1, lost=1, masks=True, subcohorts=2)
CASES: Mapping[str, tuple[Setting, tuple[int, ...]]] = {
    "central": (_CENTRAL, ()),
    "central, nodes lost": (_CENTRAL, (1, 2, 3)),
    "distributed": (_SHARED, ()),
    "distributed, as many lost as may be": (_SHARED, (2, 5, 6, 13)),
    "distributed, seven devices a node": (_NODES, ()),
    "local, devices lost": (_LOCAL, (2, 5, 6, 13)),
    "masks, as many lost as may be": (_MASKS, (2, 5, 6, 13)),
    "masks, two sub-cohorts": (_PARTS, (2,)),
}
FIRST = ("central", "distributed, as many lost as may be", "distributed, seven devices a node", "local, devices lost")
"""The cases of the quick battery."""


def idle_rounds(*, quick: bool = False) -> list[Finding]:
    """Every case, without activity and with one user touching half of the coordinates."""
    found = []
    for name, (setting, absent) in CASES.items():
        if quick and name not in FIRST:
            continue
        for acts in (False, True):
            title = f"{name}, {'one user acts' if acts else 'empty'}"
            try:
                found += list(_measured(title, setting, absent, acts))
            except (PalateError, KeyError) as error:
                found.append(Finding.checked(f"{TEST}: {title}", False, f"the round must end, got: {error}"))
    return [*found, *every_step()]


def _measured(name: str, setting: Setting, absent: tuple[int, ...], acts: bool) -> Iterator[Finding]:
    """The noise of one run: of its releases, and of what each node sent."""
    touched = np.zeros(WIDTH, np.bool_)
    touched[: WIDTH // 2] = True
    # A contribution spread so thin that noise hides it: the coordinates are tested, not the contribution.
    script = [Gesture(plain=touched.astype(np.float64) * (setting.clip_norm / math.sqrt(WIDTH)))]
    histories = crowd([[0] if acts and user == 0 else [] for user in range(USERS)], n_items=1)
    with probe_run(setting, histories, script) as stage:
        stage.play(absent=absent)
        releases = [stage.sealed(round_) for round_ in range(setting.rounds)]
        plans = [release.plan for release in stage.releases]
        users = [release.participation.users for release in stage.releases]
        replies = dict(stage.seen.replies)
    for plan, release, count in zip(plans, releases, users, strict=True):
        yield _enough(f"{name}, release of round {plan.round}", release, _charged(plan, count), touched)
    if plans[-1].mode.noised_by_devices and not setting.masks:
        plan = plans[-1]
        sent = [
            decode_share(answers[0], bits=plan.bits(setting.users_per_node))
            for (round_, _, _), answers in replies.items()
            if round_ == plan.round and answers[0] is not None
        ]
        least = [_enough("", each.total, _charged(plan, each.header.users), touched) for each in sent]
        worst = min(least, key=lambda found: found.p_value or 0.0)
        together = min(1.0, (worst.p_value or 0.0) * len(least))  # Bonferroni, over the nodes
        yield Finding.counted(f"{TEST}: {name}, weakest node", together, f"of {len(least)} nodes: {worst.said}")
        yield _alike(name, [each.total for each in sent])
    if len(releases) > 1:
        yield _alike(f"{name}, releases", releases)


def _charged(plan: RoundPlan, users: int) -> float:
    """Variance that the noise of so many devices must have: in steps squared, from the charge."""
    if plan.cohort is None:
        return float(plan.sigma) ** 2 * (users if plan.mode.alone else 1)
    return float(plan.sigma) ** 2 * users / (plan.cohort.n_min - plan.cohort.c_max)


def _enough(name: str, noise: Int64, variance: float, touched: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Finding:
    """The p-value of so little noise, on touched coordinates or on the others, dummies included."""
    from scipy.stats import chi2  # type: ignore[import-untyped]  # ships no types

    marked = np.zeros(len(noise), np.bool_)
    marked[: len(touched)] = touched
    parts = [noise[marked].astype(np.float64), noise[~marked].astype(np.float64)]
    ratios = [float(np.square(part).mean()) / variance for part in parts]
    chances = [float(chi2.cdf(ratio * len(part), len(part))) for ratio, part in zip(ratios, parts, strict=True)]
    said = f"variance {min(ratios):.4f} of what was charged, on {len(noise)} coordinates"
    return Finding.counted(f"{TEST}: {name}", min(1.0, 2 * min(chances)), said, ratios=ratios)


def _alike(name: str, vectors: list[Int64]) -> Finding:
    """The p-value of two independent noises with so high or so low a correlation."""
    from scipy.stats import norm

    scaled = [vector / np.sqrt(np.square(vector.astype(np.float64)).sum() or 1.0) for vector in vectors]
    size = math.sqrt(len(vectors[0]))
    scores = [abs(float(one @ other)) * size for one, other in combinations(scaled, 2)]
    chance = min(1.0, 2 * float(norm.sf(max(scores))) * len(scores))
    said = f"the two most alike of {len(vectors)} correlate by {max(scores) / size:.4f}"
    return Finding.counted(f"{TEST}: {name}, alike", chance, said)
