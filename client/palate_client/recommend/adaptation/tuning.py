"""Tuning: adapts the explored share of a user's lists to their loyalty and to their recent reactions.

    visits, outcomes of recommendations -> Tuning -> the share of a list that explores

If a user reacts less to recommendations than before, they are bored: their lists explore more. If they return after an
absence after which most users would have left, their lists explore less. The explored share is multiplied by 1/2 to 2,
and stays at most a half. Both directions are design choices, not findings: nobody has measured them on people yet.

    >>> tuning([], (200.0, 20.0), (30.0, 0.0), now=0.0).factor > 1
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate_client.loyalty import DAY, SESSION_GAP, churn_risk

LEAST, MOST = 0.5, 2.0
"""Bounds of the factor."""
PRIOR = 30.0
"""Weight of the prior: as many recent recommendations with the usual rate of reactions."""
FEW = 3
"""The least number of earlier visits from which the risk is estimated."""
DOUBT = 0.5
"""The risk above which lists explore less."""


@dataclass(frozen=True)
class Tuning:
    """The factor on the explored share, and why.

    Attributes:
        factor: from `LEAST` to `MOST`.
        boredom: relative decrease of the rate of liked recommendations; 0 if there is none.
        risk: churn risk before this visit; None if there are too few visits.
        explanation: the reasons in words.
    """

    factor: float
    boredom: float
    risk: float | None
    explanation: str


def tuning(visits: Sequence[float], usual: tuple[float, float], lately: tuple[float, float], *, now: float) -> Tuning:
    """Compute the tuning of one user.

    Args:
        visits: start of each visit, ascending, seconds since 1970.
        usual: number of recommendations shown and liked, without explored ones.
        lately: the same for recent ones.
        now: seconds since 1970.
    """
    boredom, risk = _boredom(usual, lately), _risk(visits, now)
    doubt = 0.0 if risk is None else max(risk - DOUBT, 0.0) / (1 - DOUBT)
    factor = min(max((1 + (MOST - 1) * boredom) * (1 - (1 - LEAST) * doubt), LEAST), MOST)
    return Tuning(factor, boredom, risk, _explanation(factor, boredom, risk, visits, now))


def _boredom(usual: tuple[float, float], lately: tuple[float, float]) -> float:
    """The relative decrease of the rate of liked recommendations, shrunk towards 0 by `PRIOR`."""
    rate = usual[1] / max(usual) if usual[1] else 0.0
    if not rate:
        return 0.0
    return min(max(1 - (lately[1] + PRIOR * rate) / (lately[0] + PRIOR) / rate, 0.0), 1.0)


def _risk(visits: Sequence[float], now: float) -> float | None:
    """The churn risk before the present visit."""
    before = [begun for begun in visits if begun < now - SESSION_GAP]
    here = next((begun for begun in visits if begun >= now - SESSION_GAP), now)
    return churn_risk(before, now=here) if len(before) >= FEW else None


def _explanation(factor: float, boredom: float, risk: float | None, visits: Sequence[float], now: float) -> str:
    said = []
    if boredom > 0.01:
        said.append(f"{boredom:.0%} less than usual is taken of what is recommended lately: more")
    if risk is not None and risk > DOUBT:
        last = max((begun for begun in visits if begun < now - SESSION_GAP), default=now)
        said.append(
            f"back after {(now - last) / DAY:.0f} days, by which {risk:.0%} would have left: more of what is sure"
        )
    return f"exploring x {factor:.2f}: {'; '.join(said) or 'nothing unusual'}"
