"""Discovery: how far a list goes beyond what is surest to be liked. One knob, and the three finer options behind it.

    explore    share of the list that explores        0.5  x discovery
    diversity  weight of being unlike the others      0.8  x discovery
    debias     part of popularity that is taken away  0.25 x discovery

None of the three does it alone: exploring and debiasing bring rarer items, and these are alike, as they follow the
taste alone; diversity hardly leaves what everybody gets. Together, in these proportions, more of the catalogue is shown
and the items of a list are less alike, with every step of the knob. The proportions and the default were chosen on
validation users of six logs (`simulations/benchmarks/ranking`).

    >>> mix_of(1.0, explore=0.1)
    Mix(explore=0.1, diversity=0.8, debias=0.25)
"""

from __future__ import annotations

from dataclasses import dataclass

from palate_common.errors import InputError

DISCOVERY = 0.2
"""The default."""
EXPLORE, DIVERSITY, DEBIAS = 0.5, 0.8, 0.25
"""What the finer options are at 1; below, they are in proportion."""
NEW = 3.0
"""So many times as much exploring for somebody without events."""


@dataclass(frozen=True)
class Mix:
    """How a list is made.

    Attributes:
        explore: the share of it that explores.
        diversity: from 0, by score alone, to 1.
        debias: how much of popularity's own part in a score is taken away.
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
    """The finer options, as given or else by the knob.

    Raises:
        InputError: one that is no share from 0 to 1.
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
