"""Floors: what a device insists on in every plan, whatever a server asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Floors:
    """What a device insists on whatever a plan says. The defaults are an app's; experiments loosen them by name."""

    min_sigma: int = 64
    """Noise below this, in steps, is refused: the accounting rule needs it."""
    max_mu2: float = float("inf")
    """The most one attempt may cost."""
    min_cohort: int = 1
    """A cohort floor below this is refused."""
    population: str | None = None
    """The only population this device belongs to; with another name a server would begin another ledger. None: any."""
    allow_seeded: bool = False
    """Whether experiments' seeded noise is accepted."""
    allow_off: bool = False
    """Whether a plan without privacy is accepted."""
    allow_central: bool = False
    """Whether a contribution may leave without any noise of its own, for a server that is trusted to add it."""
    allow_distributed: bool = True
    """Whether noise may be shared among devices. Without it, and without the looser ones, a device demands `local`."""
    allow_local: bool = True
    """Whether this device adds all of its noise by itself: it needs nobody, and the model learns little from it."""
    allow_events: bool = False
    """Whether a plan may protect single events only, and not all that this device's user did."""
    allow_unmasked: bool = False
    """Whether a noised share may leave without masks, as simulations do with `distributed`."""
    min_honest: int = 1
    """With `distributed`: the fewest survivors outside the adversary's control that a plan may count on."""
    min_corrupt: int = 1
    """With `distributed`: the fewest members of a cohort that a plan must count as the adversary's. A server that names
    fewer than it has makes this device's share of the noise too small."""
