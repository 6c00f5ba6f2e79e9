"""Evidence: what the tests of an audit found, and whether that exceeds the claim.

A test that counts something has a p-value under the claim. Those tests get their verdicts together, by Holm's rule at
one family-wise alpha, so that a correct mechanism raises a false alarm in one of a million audits, whatever the number
of tests. A test that compares bytes or replays a ledger has no p-value and gives its own verdict.

    >>> found = judge([Finding.counted("noise", 0.3, "variance 1.001 of the claim"),
    ...                Finding.counted("tiling", 1e-12, "lag 64 correlates with 0.98")])
    >>> [(each.test, each.verdict.value) for each in found]
    [('noise', 'pass'), ('tiling', 'alarm')]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from palate_audit.evidence.chance import ALPHA
from palate_core.errors import InputError

LEAST_P = 1e-300
"""Smaller p-values are given as this one."""


class Verdict(StrEnum):
    """What a test says about the claim."""

    PASS = "pass"  # noqa: S105, a verdict and no password
    """Nothing was found that contradicts the claim."""
    ALARM = "alarm"
    """The evidence exceeds the claim."""
    UNCHECKABLE = "not checkable"
    """The test lacks something that it needs, and names it."""


class Rung(StrEnum):
    """The assumptions of a bound: all are printed, none is preferred (Steinke et al. 2023; Nasr et al. 2023)."""

    L0 = "L0"
    """Clopper-Pearson on counts: it assumes only independent canaries."""
    L1 = "L1"
    """f-DP: the claimed trade-off curve is Gaussian."""
    L2 = "L2"
    """Scores are Gaussian and independent: a parametric estimate, whose assumptions other tests of the battery test."""


@dataclass(frozen=True)
class Finding:
    """One test's outcome.

    Attributes:
        test: its name, such as `noise variance`.
        verdict: given by `judge` where there is a p-value.
        said: one line for people: the result, compared with the expected one.
        p_value: probability of such data or worse under the claim; None for a test that does not count.
        figures: the numbers behind it, JSON values.
        control: it says whether a test or an attack works where it must, and nothing of the claim; it is counted apart.
    """

    test: str
    verdict: Verdict
    said: str
    p_value: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    control: bool = False

    def __post_init__(self) -> None:
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise InputError(f"`p_value` of {self.test} must lie in [0, 1], got {self.p_value}")

    @property
    def sentence(self) -> str:
        """`said`, with the p-value if there is one; `LEAST_P` is a bound of it."""
        if self.p_value is None:
            return self.said
        shown = f"< {LEAST_P:g}" if self.p_value <= LEAST_P else f"= {self.p_value:.2g}"
        return f"{self.said} (p {shown})"

    @classmethod
    def counted(cls, test: str, p_value: float, said: str, **figures: Any) -> Self:
        """A test with a p-value, without a verdict yet."""
        return cls(test, Verdict.PASS, said, float(p_value), figures)

    @classmethod
    def checked(cls, test: str, holds: bool, said: str, **figures: Any) -> Self:
        """A test that compares, with its verdict."""
        return cls(test, Verdict.PASS if holds else Verdict.ALARM, said, None, figures)

    @classmethod
    def missing(cls, test: str, said: str, **figures: Any) -> Self:
        """A test that could not run, and what it lacks."""
        return cls(test, Verdict.UNCHECKABLE, said, None, figures)


@dataclass(frozen=True)
class Bound:
    """A lower confidence bound on epsilon, of a stated rung.

    Attributes:
        rung: what it assumes.
        name: how it was made, such as `known null, one run`.
        mu: lower bound in Gaussian differential privacy; None where the rung has none.
        epsilon: the same as epsilon at the claim's delta (unit: user, adjacency: zero-out, unless the section says so).
        claimed: the claimed epsilon.
        confidence: of this bound alone.
    """

    rung: Rung
    name: str
    mu: float | None
    epsilon: float
    claimed: float
    confidence: float = 0.95

    @property
    def ratio(self) -> float:
        """Bound over claim: near 1 the audit is tight, far above 1 it is alarming."""
        return self.epsilon / self.claimed if self.claimed > 0 else math.inf


@dataclass(frozen=True)
class Section:
    """One part of an audit.

    Attributes:
        name: `ledger`, `mechanism`, `attacks` or `card`.
        subject: what was audited, in a line.
        findings: judged.
        bounds: lower bounds on epsilon.
        assumptions: what must hold for the findings to be meaningful.
        series: numbers for plots and tables, JSON values by name.
    """

    name: str
    subject: str
    findings: tuple[Finding, ...]
    bounds: tuple[Bound, ...] = ()
    assumptions: tuple[str, ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """Findings whose evidence exceeds the claim."""
        return tuple(found for found in self.findings if found.verdict is Verdict.ALARM)

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Tests that could not run, for want of memory, a file or a package: without them an audit is none."""
        return tuple(found for found in self.findings if found.figures.get("broken"))

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many findings have each verdict, without controls that worked."""
        told = [found.verdict for found in self.findings if not (found.control and found.verdict is Verdict.PASS)]
        return {verdict: told.count(verdict) for verdict in Verdict}

    @property
    def controls(self) -> int:
        """How many controls worked."""
        return sum(found.control and found.verdict is Verdict.PASS for found in self.findings)

    @property
    def unclaimed(self) -> str | None:
        """The stamp of a run that claims no privacy, so that nothing can exceed its claim; None if it claims some."""
        stated = self.series.get("claim")
        if isinstance(stated, Mapping) and stated.get("epsilon") is None:
            return str(stated.get("stamp") or "NO PRIVACY")
        return None


def judge(findings: Iterable[Finding], *, alpha: float = ALPHA) -> tuple[Finding, ...]:
    """Give the counted findings their verdicts, together (Holm 1979); the others keep theirs.

    Args:
        findings: of one audit, or of all parts that share `alpha`.
        alpha: family-wise error.

    Returns:
        The findings in their order.

    **Guarantees:** a correct mechanism is accused at most at the stated rate: if the claim holds, some counted finding
    is an alarm with probability at most `alpha`, however they depend on each other.
    """
    given = list(findings)
    counted = [number for number, found in enumerate(given) if found.p_value is not None]
    for number in holm([given[number].p_value or 0.0 for number in counted], alpha=alpha):
        given[counted[number]] = replace(given[counted[number]], verdict=Verdict.ALARM)
    return tuple(given)


def holm(p_values: Sequence[float], *, alpha: float) -> tuple[int, ...]:
    """The indices of the hypotheses that Holm's step-down rule rejects."""
    rejected = []
    for passed, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[number] > alpha / (len(p_values) - passed):
            break
        rejected.append(number)
    return tuple(sorted(rejected))
