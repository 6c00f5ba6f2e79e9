"""Shadow: user membership from the released model alone (LiRA, Carlini et al. 2022), black box.

The attacker knows the target's history and can train the run again on the other users' data. A target's score in a
model measures how well it ranks one half of their history given the other half. Half of the rehearsals are shadow
models: they give the distribution of that score with and without the target. The other rehearsals are attacked.

Targets of one rehearsal share its noise, so rates are averaged by rehearsal. The verdict uses guesses of independent
membership bits (Steinke, Nasr and Jagielski 2023), for which shared noise is no problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from palate_audit.attacks.ceiling import SHOWN, one_run_p_value
from palate_audit.attacks.measured import Estimate, Found, Measured, measured, near, thinned
from palate_audit.attacks.rates import Area, Floats, curve
from palate_audit.attacks.rehearsals import Bits, Rehearsed
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Finding
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel

ATTACK = "user membership, LiRA on the model"
KNOWS = "all other users' data to rehearse with, the target's history"
SURE = 0.1
"""The share of the bits that is guessed, the most certain ones; fixed in advance."""
SUCCEEDS = 0.6
"""A control succeeds if the lower end of its AUC interval is above this; an attack without information has 0.5."""


@dataclass(frozen=True)
class Halves:
    """Each target's history in two halves, drawn once."""

    first: Interactions
    second: Interactions

    @classmethod
    def of(cls, histories: Interactions, rng: np.random.Generator) -> Halves:
        """Alternate items of a random order."""
        order = np.lexsort((rng.random(histories.nnz), histories.owners()))
        place = np.empty(histories.nnz, np.int64)
        place[order] = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], histories.counts())
        return cls(histories.entries(place % 2 == 0), histories.entries(place % 2 == 1))


def ranking_scores(model: GlobalModel, halves: Halves) -> Floats:
    """How well a model ranks each target's second half given the first: mean standardised score, [targets]."""
    found = np.zeros(halves.first.n_users)
    for given, asked in ((halves.first, halves.second), (halves.second, halves.first)):
        scores = np.asarray(model.scores(given), np.float64)
        spread = np.maximum(scores.std(axis=1), 1e-12)
        scores = (scores - scores.mean(axis=1)[:, None]) / spread[:, None]
        owners = asked.owners()
        sums = np.bincount(owners, scores[owners, asked.indices], len(found))
        found += sums / np.maximum(asked.counts(), 1) / 2
    return found


def ratios(scores: Floats, bits: Bits, attacked: Floats) -> Floats:
    """Log-likelihood ratios of attacked scores, [runs, targets], from shadows' scores and bits, [shadows, targets].

    Each target has its own two means; all targets share one variance a side, because there are few shadows.
    """
    means, variances = [], []
    for side in (bits, ~bits):
        counts = side.sum(axis=0)
        whole = np.where(side, scores, 0).sum(axis=0) / np.maximum(counts, 1)
        mean = np.where(counts > 0, whole, scores.mean(axis=0))
        rest = np.where(side, scores - mean, 0)
        means.append(mean)
        variances.append(max(float((rest**2).sum() / max((counts - 1).clip(0).sum(), 1)), 1e-18))
    (inside, outside), (v_in, v_out) = means, variances
    found: Floats = (
        (attacked - outside) ** 2 / (2 * v_out) - (attacked - inside) ** 2 / (2 * v_in) + math.log(v_out / v_in) / 2
    )
    return found


def attack(subject: Subject, rehearsed: Rehearsed, halves: Halves) -> Found:
    """Rows, and findings without verdicts yet; for unprotected rehearsals, whether the control succeeds."""
    scores = np.array([ranking_scores(model, halves) for model in rehearsed.models])
    shadows = len(scores) // 2
    known, bits = rehearsed.bits[:shadows], rehearsed.bits[shadows:]
    found = ratios(scores[:shadows], known, scores[shadows:])
    row = _row(found, bits, mu=subject.mu if rehearsed.protected else None, protected=rehearsed.protected)
    if not rehearsed.protected:
        return Found([row], [_control(row)])
    published = ratios(scores[:shadows], known, ranking_scores(subject.model, halves)[None])
    rows = [row, _own_row(published.ravel(), found[~bits], subject.mu)]
    if subject.mu is None or subject.epsilon is None:
        return Found(rows)
    guessed = _surest(found)
    right = int(((found > np.median(found)) == bits)[guessed].sum())
    p_value = one_run_p_value(
        right=right,
        guesses=int(guessed.sum()),
        bits=bits.size,
        epsilon=subject.epsilon,
        delta=subject.terms.delta,
    )
    line = (
        f"AUC {row.auc} of at most {row.most[0]:.3f}{near(row.auc, row.most[0])}; {right} of the "
        f"{int(guessed.sum())} surest guesses of {bits.size:,} membership bits are right"
    )
    return Found(rows, [Finding.counted(f"{ATTACK}, rehearsals", p_value, line, **row.facts())])


def _surest(found: Floats) -> Bits:
    """The most extreme scores: equally many high and low ones."""
    count = max(1, int(SURE * found.size / 2))
    order = np.argsort(found, axis=None, kind="stable")
    chosen = np.zeros(found.size, np.bool_)
    chosen[order[:count]] = chosen[order[-count:]] = True
    return chosen.reshape(found.shape)


def _row(found: Floats, bits: Bits, *, mu: float | None, protected: bool) -> Measured:
    """The table row, with rates by rehearsal."""
    inside, outside = found[bits], found[~bits]
    sides = [(run[there], run[~there]) for run, there in zip(found, bits, strict=True)]
    areas = [Area.of(*side).value for side in sides if len(side[0]) and len(side[1])]
    tprs: list[Estimate | None] = []
    for fpr in SHOWN:
        if len(outside) * fpr < 1:
            tprs.append(None)
            continue
        least = float(np.quantile(outside, 1 - fpr, method="inverted_cdf"))
        tprs.append(Estimate.over_runs([float((there > least).mean()) for there, _ in sides if len(there)]))
    runs = len(found)
    return Measured(
        ATTACK,
        "model (anybody)" if protected else "model learned with dp off",
        KNOWS,
        f"{runs} rehearsals, after shadows; interval over rehearsals",
        len(inside),
        len(outside),
        Estimate.over_runs(areas),
        tuple(tprs),
        mu,
        thinned(*curve(inside, outside)),
    )


def _own_row(inside: Floats, outside: Floats, mu: float | None) -> Measured:
    """The row of the released model, which all targets were in, compared with rehearsals without them."""
    return measured(
        ATTACK,
        "model (anybody)",
        knows=KNOWS,
        sample="the run's own model, one sample, beside rehearsals without the target",
        inside=inside,
        outside=outside,
        mu=mu,
        independent=False,
    )


def _control(row: Measured) -> Finding:
    """The control: the attack must succeed without protection."""
    test = f"{ATTACK}, control"
    low = row.auc.value if row.auc.low is None else row.auc.low
    if low > SUCCEEDS:
        return replace(Finding.checked(test, True, f"succeeds with dp off: AUC {row.auc}", **row.facts()), control=True)
    weak = f"too weak here to prove anything: with dp off its AUC must be above {SUCCEEDS}, and is {row.auc}"
    return replace(Finding.missing(test, weak, **row.facts()), control=True)
