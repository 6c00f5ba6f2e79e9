"""Floors: what a device insists on in every plan, whatever a server asks."""

from __future__ import annotations

from dataclasses import dataclass, replace


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
    min_honest: int = 20
    """With `distributed`: the fewest survivors outside the adversary's control that a plan may count on."""
    min_corrupt: int = 1
    """With `distributed`: the fewest of the cohort that a plan must count as the adversary's. A server that names fewer
    than it has makes this device's share of the noise too small."""
    min_corrupt_share: float = 0.1
    """The same as a share of the largest cohort that a plan allows, rounded up."""
    max_alone_mu2: float = float("inf")
    """The most that one attempt may cost if all other devices are the adversary's: what this device's own share of the
    noise, or with `local` its noise, amounts to by itself."""

    def for_few(self) -> Floors:
        """The same floors for a cohort of any size: for a small deployment, an experiment or a test.

        Who shares the noise with few others, or with a server that may bring devices of its own, relies on it not to.
        """
        return replace(self, min_honest=1, min_corrupt=1, min_corrupt_share=0.0)
