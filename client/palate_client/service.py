"""Service: the server whose models an app uses and whose rounds it may join, and the user's limits.

The accounting is imported when a service is made: an app without a service doesn't load it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from palate_core.device.floors import Floors
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_common.enrolment import Invitation
    from palate_core.log.pinned import Pinned

_MARGIN = 1e-9
"""Added to the epsilon of the Gaussian: discrete noise and its sharing add less than this, see
`palate_core.accounting`."""
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server, and the user's privacy limits. Unit: this installation; adjacency: zero-out.

    Attributes:
        public_key: the release key, Ed25519, 64 hexadecimal digits, built into the app.
        population: the population of this app's users.
        epsilon: the most epsilon that this installation ever spends, in all rounds together.
        delta: the delta of epsilon.
        participations: the most rounds that it ever takes part in.
        floors: conditions on each plan; only simulations loosen them.
        most_bytes: the most bytes of a model file that is read.
        witnesses: verifier keys of the witnesses of the population's ledger, built into the app; (): it pins none, and
            a device relies on what it has seen itself.
        quorum: how many of them must have cosigned what a plan or a model shows; at least 1 with witnesses.
        next_witnesses: while a witness changes its key: all keys as they will be. As many of them suffice as well.
        first_key: the release key with which the ledger began, where `public_key` is a later one; empty: the same.

    Raises:
        InputError: a member is invalid.
    """

    public_key: str
    population: str
    epsilon: float = 8.0
    delta: float = 1e-6
    participations: int = 1000
    floors: Floors = field(default_factory=Floors)
    most_bytes: int = 2**28
    witnesses: tuple[str, ...] = ()
    quorum: int = 0
    next_witnesses: tuple[str, ...] = ()
    first_key: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.public_key, str) or not _KEY.fullmatch(self.public_key):
            raise InputError(f"`public_key` must be 64 lower-case hexadecimal digits, got {self.public_key!r:.80}")
        if not isinstance(self.population, str) or not self.population:
            raise InputError(f"`population` must be a name, got {self.population!r:.80}")
        from palate_core.accounting import check_delta, check_epsilon

        check_epsilon(self.epsilon)
        check_delta(self.delta)
        for name in ("participations", "most_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"`{name}` must be a whole number from 0, got {value!r}")
        if self.noise_delta <= 0:
            raise InputError(f"`delta` must be above {self.delta - self.noise_delta:.2g}, got {self.delta!r}")
        if self.witnesses or self.next_witnesses or self.quorum or self.first_key:  # else nothing is loaded for it here
            self.pinned  # noqa: B018 - refuse malformed witnesses
        object.__setattr__(self, "floors", replace(self.floors, population=self.population))

    @cached_property
    def pinned(self) -> Pinned:
        """The release key with the witnesses that must have cosigned what is shown, if the app pins any.

        Raises:
            InputError: a key is malformed, they aren't as many as `quorum` needs, or there is a quorum without them.
        """
        from palate_core.log.pinned import Pinned

        if not self.witnesses and (self.quorum or self.next_witnesses):
            raise InputError(f"`witnesses` must be given with a quorum of {self.quorum!r:.20}, got none")
        sets = [keys for keys in (self.witnesses, self.next_witnesses) if keys]
        return Pinned.of(self.population, self.public_key, *sets, needed=self.quorum, first_key=self.first_key)

    def check_invitation(self, invited: Invitation) -> None:
        """Refuse an invitation of another service.

        Raises:
            InputError: it is.
        """
        for name in ("public_key", "population"):
            expected, got = getattr(self, name), getattr(invited, name)
            if expected != got and not (name == "public_key" and expected in invited.former_keys):
                raise InputError(f"the invitation's {name} must be the service's, {expected:.16}, got {got:.16}")
        pinned = {frozenset(keys) for keys in (self.witnesses, self.next_witnesses) if keys}
        if pinned and (frozenset(invited.witnesses) not in pinned or invited.quorum != self.quorum):
            raise InputError(
                f"the invitation's witnesses must be the service's, {self.quorum} of "
                f"{len(self.witnesses)}, got {invited.quorum} of {len(invited.witnesses)}, or other keys"
            )

    @property
    def began_with(self) -> str:
        """The release key with which the population's ledger began."""
        return self.first_key or self.public_key

    @property
    def noise_delta(self) -> float:
        """The part of delta for the noise; the rest is for masking graphs or sampled steps, in all rounds."""
        from palate_core.reserved_delta import reserved_delta

        return self.delta - reserved_delta(self.participations)

    @property
    def limit_mu2(self) -> float:
        """The limit as mu^2, the ledger's unit."""
        from palate_core.accounting import mu_of

        return mu_of(epsilon=self.epsilon - min(2 * _MARGIN, self.epsilon / 2), delta=self.noise_delta) ** 2

    def epsilon_of(self, mu2: float) -> float:
        """Convert a spent mu^2 to epsilon at `delta`, rounded up. Unit: this installation; adjacency: zero-out."""
        from palate_core.accounting import epsilon_of

        if mu2 == 0:
            return 0.0
        return epsilon_of(mu=math.nextafter(math.sqrt(mu2), math.inf), delta=self.noise_delta) + _MARGIN

    @property
    def loosened(self) -> tuple[str, ...]:
        """The floors that are looser than an app's, in words; only experiments have any.

        `allow_central` and `allow_events` are an app's own choice, and none of them: what leaves under these says so
        itself, by `dp` of the report's `sent`.
        """
        said = {
            "a plan without privacy is answered": self.floors.allow_off,
            "noise from a seed is accepted": self.floors.allow_seeded,
            "noised shares leave without masks": self.floors.allow_unmasked,
        }
        return tuple(how for how, loose in said.items() if loose)


def require(service: Service | None) -> Service:
    """The service; an error if there is none.

    Raises:
        InputError: the app has none.
    """
    if service is None:
        raise InputError("`service` must be given to `palate.open`: models and rounds come from one")
    return service
