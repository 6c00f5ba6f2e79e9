"""Membership of a user (LiRA, Carlini et al. 2022), at its strongest: white box, all other users known.

For each target: were their events in the releases, or emptied? The score is the exact log-likelihood ratio, so the
attack needs no shadow models. Whoever has the released model alone knows less: it follows from the releases.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2  # type: ignore[import-untyped]  # scipy ships no types

from palate_audit.attacks.ceiling import SHOWN, excess_p_value, lower_bounds
from palate_audit.attacks.contributions import Spread, norms2
from palate_audit.attacks.likelihood import LikelihoodTrials, counted
from palate_audit.attacks.measured import Found, Measured, near, played
from palate_audit.attacks.noise import TOLD, View, views_of
from palate_audit.attacks.rates import area
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Bound, Finding, Rung
from palate_common.interactions import Interactions
from palate_core.accounting import epsilon_of

ATTACK = "user membership, likelihood ratio"
KNOWS = "all other users, the target's history"
DIRECTIONS = 256
"""Users whose contributions span the space in which the run's own noise is tested."""


Segments = dict[str, npt.NDArray[np.bool_]]
"""Some targets, by what they have in common."""


def segments_of(targets: Interactions, groups: dict[str, tuple[str, ...]]) -> Segments:
    """Deciles of activity, and each group of the data (one label a target)."""
    activity = targets.counts()
    edges = np.unique(np.quantile(activity, np.arange(1, 10) / 10, method="inverted_cdf"))
    bins = np.searchsorted(edges, activity, side="left")
    found = {}
    for part in (bins == one for one in np.unique(bins)):
        found[f"activity {activity[part].min()}-{activity[part].max()} items"] = part
    for name, labels in groups.items():
        found |= {f"{name} {label}": np.array([one == label for one in labels]) for label in sorted(set(labels))}
    return found


def attack(subject: Subject, targets: Interactions, segments: Segments, *, repeats: int) -> Found:
    """Attack in every view, on the run's own releases, and by segment of the targets.

    Args:
        subject: what is attacked.
        targets: histories of training users.
        segments: of the targets, for whom the attack may do better than an average shows.
        repeats: games a target.
    """
    found = Found()
    sent = [subject.sent(sealed, targets) for sealed in subject.releases]
    for view in views_of(subject.releases[0].plan):
        trials, row = played(subject, view, sent, attack=ATTACK, knows=KNOWS, ceiling=subject.mu, repeats=repeats)
        most = row.mu
        found.rows.append(row)
        if view is View.CLEAR:
            found.findings.append(control(row))
        if view is View.SHARE and most is not None:
            p_value = excess_p_value(counted(trials), mu=most)
            found.findings.append(Finding.counted(f"{ATTACK}, {TOLD[view]}", p_value, said(row), **row.facts()))
        if view is View.RELEASE and most is not None:
            _judge(found, subject, trials, most)
            found.findings.append(_worst_segment(trials, segments, most))
    found.add(own_releases(subject, targets))
    return found


def _judge(found: Found, subject: Subject, trials: LikelihoodTrials, mu: float) -> None:
    """Add whether the last row exceeds the ceiling, and the bounds on epsilon from its counts."""
    decisions, delta = counted(trials), subject.terms.noise_delta
    p_value = excess_p_value(decisions, mu=mu)
    row = found.rows[-1]
    found.findings.append(Finding.counted(f"{ATTACK}, releases", p_value, said(row), **row.facts()))
    claimed = epsilon_of(mu=mu, delta=delta)
    found.bounds += lower_bounds(decisions, name=f"{ATTACK}, fresh noise", delta=delta, claimed=claimed)


def _worst_segment(trials: LikelihoodTrials, segments: Segments, mu: float) -> Finding:
    """Whether any decile or group is above the ceiling, which an average may hide."""
    parts = {name: trials.of(part) for name, part in segments.items()}
    counts = [each for part in parts.values() for each in counted(part)]
    areas = {name: area(part.inside.ravel(), part.outside.ravel()).value for name, part in parts.items()}
    worst = max(areas, key=lambda name: areas[name])
    line = f"{len(parts)} deciles of activity and groups; the largest AUC, {areas[worst]:.3f}, is that of {worst}"
    return Finding.counted(f"{ATTACK}, segments", excess_p_value(counts, mu=mu), line, worst=worst)


def control(found: Measured) -> Finding:
    """The control: the attack must succeed on unprotected data."""
    test = f"{found.attack}, control"
    if found.auc.value >= 0.99:
        worked = Finding.checked(test, True, f"succeeds on {found.sees}: AUC {found.auc.value:.4f}", **found.facts())
        return replace(worked, control=True)
    broken = Finding.missing(
        test,
        f"the attack is broken, for it must reach AUC 0.99 on {found.sees} and reaches {found.auc.value:.4f}: what it "
        "says of the releases means nothing",
        **found.facts(),
    )
    return replace(broken, control=True)


def said(found: Measured) -> str:
    """One line: the result, compared with the ceiling."""
    auc, *tprs = found.most
    parts = [f"AUC {found.auc} of at most {auc:.3f}{near(found.auc, auc)}"]
    for at, tpr, most in zip(SHOWN, found.tprs, tprs, strict=True):
        parts.append(f"TPR at {at:.1%} FPR {tpr} of at most {most:.3f}{near(tpr, most)}")
    return "; ".join(parts)


def own_releases(subject: Subject, targets: Interactions) -> Found:
    """The run's own sealed releases as one sample.

    The attacker's scores share one noise there. The verdict uses a statistic of the same projections whose distribution
    under the claim is exact: the energy of the noise in the space that the targets' contributions span. The lower the
    energy, the further apart the attacker's scores.
    """
    test = f"{ATTACK}, own releases"
    if not subject.whole:
        lost = "some device did not take part, and no file says which: the sums are not known"
        return Found(findings=[Finding.missing(test, lost)])
    found = Found()
    if subject.mu is None:
        return found
    energy, directions, apart = 0.0, 0, np.zeros(min(targets.n_users, DIRECTIONS))
    for sealed in subject.releases:
        total, sigma = subject.total(sealed), sealed.plan.sigma
        sent = subject.sent(sealed, targets.users(slice(0, DIRECTIONS)))
        part, rank = energy_in_span(sent, (sealed.noisy.steps[: len(total)] - total) / sigma)
        energy, directions, apart = energy + part, directions + rank, apart + norms2(sent) / sigma**2
    if not directions:
        found.findings.append(Finding.missing(test, "no target sends anything"))
        return found
    ratio, delta = float(np.sqrt(energy / directions)), subject.terms.noise_delta
    line = f"along {directions:,} directions of users' contributions the noise is {ratio:.3f} of the charged one"
    figures = {"directions": directions, "energy": energy, "noise_ratio": ratio}
    found.findings.append(Finding.counted(test, float(chi2.cdf(energy, directions)), line, **figures))
    mu = float(np.sqrt(apart.max() / (energy / chi2.ppf(0.05, directions))))
    name, claimed = f"{test}: energy along {directions:,} directions", epsilon_of(mu=subject.mu, delta=delta)
    found.bounds.append(Bound(Rung.L2, name, mu, epsilon_of(mu=mu, delta=delta), claimed))
    return found


def energy_in_span(sent: Spread, noise: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Squared length of the noise's projection onto the span of the users' vectors, and the span's dimension.

    For noise of unit variance it is chi-square distributed with that many degrees of freedom, for any vectors that were
    fixed before the noise.
    """
    used = np.unique(sent.indices)
    vectors = sent[:, used].toarray()
    lengths = np.linalg.norm(vectors, axis=1)
    vectors = vectors[lengths > 0] / lengths[lengths > 0, None]
    if not len(vectors):
        return 0.0, 0
    basis, scale, _ = np.linalg.svd(vectors.T, full_matrices=False)
    kept = basis[:, scale > 1e-6 * scale[0]]
    return float(np.square(kept.T @ noise[used]).sum()), kept.shape[1]
