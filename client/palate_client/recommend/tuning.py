"""Tuning: how far a user's lists explore, by how loyal they are and how well they have been served lately.

    visits, outcomes of recommendations -> Tuning -> the share of a list that explores

Who takes less of what is recommended than they used to is bored: their lists explore more. Who comes back after an
absence by which most would have gone for good sees more of what is surest. The share is multiplied by 1/2 to 2, and
never above a half. Both directions are choices of design, not findings: nobody has measured them on people yet.

    >>> tuning([], (200.0, 20.0), (30.0, 0.0), now=0.0).factor > 1
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate_client.loyalty import DAY, SESSION_GAP, churn_risk

LEAST, MOST = 0.5, 2.0
"""Of the factor."""
PRIOR = 30.0
"""Recommendations lately that are thought to have done as well as usual."""
FEW = 3
"""Visits before the present one, below which an absence says nothing."""
DOUBT = 0.5
"""A risk above this is doubt."""


@dataclass(frozen=True)
class Tuning:
    """What the share of exploring is multiplied by, and why.

    Attributes:
        factor: from `LEAST` to `MOST`.
        boredom: by how much less is taken of what is recommended lately, as a share; 0 if no less.
        risk: how likely it was that the user would not come back, before this visit; None while there is no saying.
        explanation: for people.
    """

    factor: float
    boredom: float
    risk: float | None
    explanation: str


def tuning(visits: Sequence[float], usual: tuple[float, float], lately: tuple[float, float], *, now: float) -> Tuning:
    """The tuning of one user.

    Args:
        visits: when visits began, rising, seconds since 1970.
        usual: recommendations shown and liked, explored ones apart.
        lately: the same of the latest ones.
        now: seconds since 1970.
    """
    boredom, risk = _boredom(usual, lately), _risk(visits, now)
    doubt = 0.0 if risk is None else max(risk - DOUBT, 0.0) / (1 - DOUBT)
    factor = min(max((1 + (MOST - 1) * boredom) * (1 - (1 - LEAST) * doubt), LEAST), MOST)
    return Tuning(factor, boredom, risk, _explained(factor, boredom, risk, visits, now))


def _boredom(usual: tuple[float, float], lately: tuple[float, float]) -> float:
    """How much less is liked lately, drawn towards no less by `PRIOR`."""
    rate = usual[1] / max(usual) if usual[1] else 0.0
    if not rate:
        return 0.0
    return min(max(1 - (lately[1] + PRIOR * rate) / (lately[0] + PRIOR) / rate, 0.0), 1.0)


def _risk(visits: Sequence[float], now: float) -> float | None:
    """The churn risk as it was before the present visit."""
    before = [begun for begun in visits if begun < now - SESSION_GAP]
    here = next((begun for begun in visits if begun >= now - SESSION_GAP), now)
    return churn_risk(before, now=here) if len(before) >= FEW else None


def _explained(factor: float, boredom: float, risk: float | None, visits: Sequence[float], now: float) -> str:
    """The factor in words."""
    said = []
    if boredom > 0.01:
        said.append(f"{boredom:.0%} less than usual is taken of what is recommended lately: more")
    if risk is not None and risk > DOUBT:
        last = max((begun for begun in visits if begun < now - SESSION_GAP), default=now)
        said.append(
            f"back after {(now - last) / DAY:.0f} days, by which {risk:.0%} would have left: more of what is sure"
        )
    return f"exploring x {factor:.2f}: {'; '.join(said) or 'nothing unusual'}"
