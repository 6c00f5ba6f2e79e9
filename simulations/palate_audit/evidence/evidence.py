"""Evidence: what the tests of an audit found, and when that exceeds the claim.

A test that counts something has a p-value under the claim. Verdicts on those are made together, by Holm's rule at one
family-wise alpha, so that a correct mechanism is accused once in a million audits however many tests there are. A
test that compares bytes or replays a ledger has no p-value: its verdict is its own.

    >>> found = judge([Finding.counted("B noise", 0.3, "variance 1.001 of the claim"),
    ...                Finding.counted("J tiling", 1e-12, "lag 64 correlates with 0.98")])
    >>> [(each.test, each.verdict.value) for each in found]
    [('B noise', 'pass'), ('J tiling', 'alarm')]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from palate_common.errors import InputError

ALPHA = 1e-6
"""Family-wise error of one audit: the chance that a correct mechanism raises any alarm of a counted test."""


class Verdict(StrEnum):
    """What a test says about the claim."""

    PASS = "pass"  # noqa: S105, a verdict and no password
    """Nothing was found that contradicts the claim."""
    ALARM = "alarm"
    """The evidence exceeds the claim."""
    UNCHECKABLE = "not checkable"
    """What the test needs is not there; it says what."""


class Rung(StrEnum):
    """How much a bound assumes: all are printed, none is preferred (Steinke et al. 2023; Nasr et al. 2023)."""

    L0 = "L0"
    """Clopper-Pearson on counts: nothing but independent canaries."""
    L1 = "L1"
    """f-DP: the claimed trade-off curve is Gaussian."""
    L2 = "L2"
    """Scores are Gaussian and independent: a parametric estimate, which other tests of the battery test."""


@dataclass(frozen=True)
class Finding:
    """One test's outcome.

    Attributes:
        test: its letter and noun, as `B noise variance`.
        verdict: made by `judge` where there is a p-value.
        said: one line for people: what was found, beside what was expected.
        p_value: of the data or worse if the claim holds; None for a test that does not count.
        figures: numbers behind it, JSON values.
    """

    test: str
    verdict: Verdict
    said: str
    p_value: float | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise InputError(f"`p_value` of {self.test} must lie in [0, 1], got {self.p_value}")

    @classmethod
    def counted(cls, test: str, p_value: float, said: str, **figures: Any) -> Self:
        """A test with a p-value, not judged yet."""
        return cls(test, Verdict.PASS, said, float(p_value), figures)

    @classmethod
    def checked(cls, test: str, holds: bool, said: str, **figures: Any) -> Self:
        """A test that compares, with its verdict."""
        return cls(test, Verdict.PASS if holds else Verdict.ALARM, said, None, figures)

    @classmethod
    def missing(cls, test: str, said: str, **figures: Any) -> Self:
        """A test that could not be made, and what it lacks."""
        return cls(test, Verdict.UNCHECKABLE, said, None, figures)


@dataclass(frozen=True)
class Bound:
    """A lower confidence bound on epsilon, of a stated rung.

    Attributes:
        rung: what it assumes.
        name: how it was made, as `known null, one run`.
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
        name: `ledger`, `mechanism`, `mutants`, `attacks` or `card`.
        subject: what was audited, in a line.
        findings: judged.
        bounds: lower bounds on epsilon.
        assumptions: what the reader has to believe for each finding to mean what it says.
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


def judge(findings: Iterable[Finding], *, alpha: float = ALPHA) -> tuple[Finding, ...]:
    """Give the counted findings their verdicts, together (Holm 1979); the others keep theirs.

    Args:
        findings: of one audit, or of every part that is to share `alpha`.
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
    """Which of the hypotheses Holm's step-down rule rejects, by number."""
    rejected = []
    for passed, number in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[number] > alpha / (len(p_values) - passed):
            break
        rejected.append(number)
    return tuple(sorted(rejected))
