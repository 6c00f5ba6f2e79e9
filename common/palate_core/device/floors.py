"""Floors: conditions that every plan must meet before this device takes part."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Floors:
    """Conditions that a plan must meet. The defaults are for an app; experiments loosen single ones by name."""

    min_sigma: int = 64
    """The least standard deviation of the noise, in steps of the grid; the accounting needs it."""
    max_mu2: float = float("inf")
    """The highest cost of one attempt, as mu^2."""
    min_cohort: int = 1
    """The least `cohort_floor` that a plan may have."""
    population: str | None = None
    """The only population it belongs to; under another name a server would start a new ledger. None: any."""
    allow_seeded: bool = False
    """Whether experiments' seeded noise is accepted."""
    allow_off: bool = False
    """Whether a plan without privacy is accepted."""
    allow_central: bool = False
    """Whether a contribution may be sent without noise, to a server that is trusted to add it."""
    allow_distributed: bool = True
    """Whether devices may share the noise. If not, and the settings above are off, only `local` is accepted."""
    allow_local: bool = True
    """Whether this device may add all the noise itself: it needs no other device, but the model learns little."""
    allow_events: bool = False
    """Whether a plan may protect only single events instead of all events of the user."""
    allow_unmasked: bool = False
    """Whether a contribution with its share of the noise may be sent without masks, as `distributed` simulations do."""
    min_honest: int = 20
    """With `distributed`: the least number of honest survivors that a plan may assume."""
    min_corrupt: int = 1
    """With `distributed`: the least number of corrupt devices that a plan must assume. If a server has more than it
    says, this device's share of the noise is too small."""
    min_corrupt_share: float = 0.1
    """The same as a share of the largest cohort that a plan allows, rounded up."""
    max_alone_mu2: float = float("inf")
    """The highest cost of one attempt, as mu^2, if all other devices are corrupt: then only this device's own noise,
    its share or with `local` all of it, protects it."""

    def for_few(self) -> Floors:
        """The same floors without conditions on the cohort: for a small deployment, an experiment or a test.

        A device that shares the noise with few others has to trust them and the server.
        """
        return replace(self, min_honest=1, min_corrupt=1, min_corrupt_share=0.0)
