"""Discovery: how far a list departs from the highest scores. One setting, and the three options that it sets.

    explore    share of the list that is explored           0.5  x discovery
    diversity  weight of the items' dissimilarity           0.8  x discovery
    debias     part of the popularity score that is removed 0.25 x discovery

None of the three is enough alone: exploration and debiasing bring rarer items, but similar ones, as they follow the
user's taste; diversity hardly brings rare items. Together, in these proportions, each step of the setting shows more of
the catalogue and makes the items of a list less similar. The proportions and the default were chosen on validation
users of six logs (`simulations/benchmarks/ranking`).

    >>> mix_of(1.0, explore=0.1)
    Mix(explore=0.1, diversity=0.8, debias=0.25)
"""

from __future__ import annotations

from dataclasses import dataclass

from palate_core.errors import InputError

DISCOVERY = 0.2
"""The default setting."""
EXPLORE, DIVERSITY, DEBIAS = 0.5, 0.8, 0.25
"""The three options if the setting is 1; below that they are proportional to it."""
NEW = 3.0
"""Factor on the share of exploration for a user without events."""


@dataclass(frozen=True)
class Mix:
    """The options of a list.

    Attributes:
        explore: the share of the list that is explored.
        diversity: weight of the items' dissimilarity, from 0, only the score, to 1.
        debias: the part of the popularity score that is removed, from 0 to 1.
    """

    explore: float
    diversity: float
    debias: float


def mix_of(
    discovery: float | None = None,
    *,
    explore: float | None = None,
    diversity: float | None = None,
    debias: float | None = None,
) -> Mix:
    """The three options: as given, or else by the setting `discovery`.

    Raises:
        InputError: one is not a share from 0 to 1.
    """
    given = {"discovery": discovery, "explore": explore, "diversity": diversity, "debias": debias}
    for name, share in given.items():
        if share is not None and (isinstance(share, bool) or not 0 <= share <= 1):
            raise InputError(f"`{name}` must be a share from 0 to 1, got {share!r:.40}")
    far = DISCOVERY if discovery is None else discovery
    return Mix(
        far * EXPLORE if explore is None else explore,
        far * DIVERSITY if diversity is None else diversity,
        far * DEBIAS if debias is None else debias,
    )
