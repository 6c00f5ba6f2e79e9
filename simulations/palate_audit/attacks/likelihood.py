"""Likelihood: the optimal test between two histories of one user, by an attacker who knows all others.

The two contributions differ by a known vector D_r in each release r, in a state that earlier releases have made public.
With Gaussian noise of standard deviation s_r the log-likelihood ratio is

    L = sum_r ( <noise_r, D_r> / s_r^2 ) +- m / 2,    m = sum_r |D_r|^2 / s_r^2

plus where the first history is the true one (Neyman and Pearson 1933): no test of these releases is better. If the
second history is empty, m is at most mu^2 of the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from palate_audit.attacks.ceiling import SHOWN
from palate_audit.attacks.contributions import Floats, Spread, norms2, sums
from palate_audit.attacks.noise import View, fresh_noise, sigma_of
from palate_audit.attacks.subject import Subject
from palate_audit.statistics.counting import ErrorCounts

LEVELS = (*SHOWN, 0.1)
"""Nominal false-positive rates of the thresholds, fixed in advance; one more threshold is 0."""


@dataclass(frozen=True)
class LikelihoodTrials:
    """Log-likelihood ratios of n targets in `repeats` games: `noise` [repeats, n] and `apart`, m, [n]."""

    noise: Floats
    apart: Floats

    @property
    def inside(self) -> Floats:
        """Scores where the first history is the true one, [repeats, n]."""
        return self.noise + self.apart / 2

    @property
    def outside(self) -> Floats:
        """Scores where the second history is the true one, [repeats, n]."""
        return self.noise - self.apart / 2

    def of(self, targets: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> LikelihoodTrials:
        """The trials of some targets."""
        return LikelihoodTrials(self.noise[:, targets], self.apart[targets])

    def threshold(self, fpr: float) -> Floats:
        """The score threshold for this false-positive rate, by the known null N(-m/2, m): [n]."""
        return np.sqrt(self.apart) * NormalDist().inv_cdf(1 - fpr) - self.apart / 2

    def thresholds(self) -> list[Floats]:
        """The thresholds of each rate of `SHOWN`, for every trial, repeat by repeat; 0 without noise."""
        exact = not self.noise.any()
        each = [np.zeros(len(self.apart)) if exact else self.threshold(fpr) for fpr in SHOWN]
        return [np.tile(one, len(self.noise)) for one in each]


def play(subject: Subject, view: View, differences: Sequence[Spread], *, repeats: int) -> LikelihoodTrials:
    """Games with fresh noise: each target has its own noise in each repeat, so that trials are independent.

    Args:
        subject: whose mechanism.
        view: what the attacker sees.
        differences: for each release, the difference of the two contributions of each target.
        repeats: games a target.
    """
    targets = differences[0].shape[0]
    noise, apart = np.zeros((repeats, targets)), np.zeros(targets)
    for sealed, apart_by in zip(subject.releases, differences, strict=True):
        sigma2 = sigma_of(view, sealed.noisy) ** 2
        apart += norms2(apart_by) / sigma2
        for repeat in range(repeats):
            drawn = fresh_noise(view, sealed.plan, sealed.noisy.users, len(apart_by.data))
            noise[repeat] += sums(apart_by, drawn) / sigma2
    return LikelihoodTrials(noise, apart)


def counted(trials: LikelihoodTrials) -> list[ErrorCounts]:
    """Errors at every threshold of `LEVELS`, and last at the threshold 0."""
    found, size = [], trials.noise.size
    for level in (*LEVELS, None):
        at = np.zeros(len(trials.apart)) if level is None else trials.threshold(level)
        misses, false = int((trials.inside <= at).sum()), int((trials.outside > at).sum())
        found.append(ErrorCounts(misses, size, false, size))
    return found
