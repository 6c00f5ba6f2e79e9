"""Measured: one row of the attacks' tables: the attack, its success rates, and the ceiling of the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from palate_audit.attacks.ceiling import SHOWN, most_auc, most_tpr
from palate_audit.attacks.contributions import Spread
from palate_audit.attacks.likelihood import LikelihoodTrials, play
from palate_audit.attacks.noise import View, claimed
from palate_audit.attacks.rates import Estimate, Floats, area, curve, rate
from palate_audit.attacks.subject import Subject
from palate_audit.evidence.evidence import Bound, Finding

HEADER = ("sees", "sample", "in / out", "AUC", "at most", "TPR at 0.1 % FPR", "at most", "TPR at 1 % FPR", "at most")
NEAR = 0.9
"""Share of its ceiling from which a figure is explained."""


@dataclass(frozen=True)
class Measured:
    """The result of one attack.

    Attributes:
        attack: its name.
        sees: what the attacker sees.
        knows: what else the attacker knows.
        sample: where the trials come from, and what is independent of what.
        inside: number of trials in which the hypothesis holds.
        outside: number of trials in which it doesn't.
        auc: area under the ROC curve.
        tprs: true-positive rate at each false-positive rate of `SHOWN`.
        mu: of the ceiling; None where the run claims nothing against this view.
        curve: the ROC curve.
    """

    attack: str
    sees: str
    knows: str
    sample: str
    inside: int
    outside: int
    auc: Estimate
    tprs: tuple[Estimate, ...]
    mu: float | None
    curve: tuple[Floats, Floats] = field(repr=False)

    @property
    def most(self) -> tuple[float, ...]:
        """The ceilings of AUC and of each TPR; empty without a claim."""
        return () if self.mu is None else (most_auc(mu=self.mu), *(most_tpr(at, mu=self.mu) for at in SHOWN))

    @property
    def drawn(self) -> bool:
        """Whether the curve is worth drawing: not one that goes straight up."""
        return self.auc.value < 1

    def cells(self) -> list[str]:
        """The cells of its row under `HEADER`."""
        most = [f"{value:.3f}" for value in self.most] or ["none claimed"] * 3
        values = [str(self.auc), *map(str, self.tprs)]
        figures = [cell for pair in zip(values, most, strict=True) for cell in pair]
        return [self.sees, self.sample, f"{self.inside:,} / {self.outside:,}", *figures]

    def facts(self) -> dict[str, Any]:
        """The row as JSON."""
        keys = ("auc", *(f"tpr_at_fpr_{at:g}" for at in SHOWN))
        values = dict(zip(keys, (self.auc, *self.tprs), strict=True))
        return {
            "attack": self.attack,
            "sees": self.sees,
            "knows": self.knows,
            "sample": self.sample,
            "in": self.inside,
            "out": self.outside,
            **{name: [each.value, each.low, each.high] for name, each in values.items()},
            "ceiling": dict(zip(keys, self.most, strict=True)) if self.most else None,
        }


@dataclass
class Found:
    """The results of an attack.

    Attributes:
        rows: of its table.
        findings: without verdicts yet.
        bounds: on epsilon.
    """

    rows: list[Measured] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Append the results of another attack."""
        self.rows += other.rows
        self.findings += other.findings
        self.bounds += other.bounds


def played(
    subject: Subject,
    view: View,
    differences: Sequence[Spread],
    *,
    attack: str,
    knows: str,
    ceiling: float | None,
    repeats: int,
) -> tuple[LikelihoodTrials, Measured]:
    """Play an attack's games in a view: independent trials, of which trial i of both sides shares its noise.

    Args:
        subject: what is attacked.
        view: what the attacker sees.
        differences: for each release, the difference of the two contributions of each target.
        attack: its name.
        knows: what else the attacker knows.
        ceiling: mu of the claim; it is the row's where the claim holds against this view.
        repeats: games a target; one where nothing is drawn.
    """
    trials = play(subject, view, differences, repeats=1 if view is View.CLEAR or subject.mu is None else repeats)
    mu = ceiling if claimed(view, subject.releases[0].plan) else None
    inside, outside = trials.inside.ravel(), trials.outside.ravel()
    tprs = tuple(rate(int((inside > least).sum()), len(inside)) for least in trials.thresholds())
    row = Measured(
        attack, view.value, knows, "fresh noise, independent trials", len(inside), len(outside),
        auc=area(inside, outside), tprs=tprs, mu=mu, curve=curve(inside, outside),
    )  # fmt: skip
    return trials, row


def near(found: Estimate, most: float) -> str:
    """Why a figure at its ceiling, or above it, is no alarm by itself; "" where it is far below."""
    if found.value <= NEAR * most:
        return ""
    if found.value <= most:
        return ", which the claim allows"
    if found.low <= most:
        return ", above it within chance: the interval reaches below"
    return ", above it, which one interval of many does by chance: the p-value decides"
