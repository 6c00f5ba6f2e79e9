"""RoundPlan: the signed contract each round attempt starts from.

The server fixes everything in the plan, charges its ledger with the plan's hash, and signs plan, charge and ledger
checkpoint together. A device verifies all of it before it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate_common.algorithms import PublicFacts
from palate_common.errors import InputError, IntegrityError
from palate_common.mechanism.accounting import CENTRAL_SIGMA_FLOOR, charged_mu2
from palate_common.mechanism.clipping import CLIP_NORMS, MAX_GRID
from palate_common.mechanism.cohort import CohortTerms, modulus_bits, share_sigma
from palate_common.mechanism.sampled_gaussian import LEAST_INCLUSION, MAX_STEPS, sampled_mu2
from palate_common.mechanism.update import Layout
from palate_common.records.canonical import canonical_json, digest, read_canonical
from palate_common.records.entries import ChargeEntry, entry_from
from palate_common.records.growth import Shown, check_growth, spend_shown
from palate_common.records.merkle import Checkpoint, verify_inclusion
from palate_common.records.signing import SigningKey, verify

PLAN_TAG = "palate/plan/1"
MOST_PLAN = 2**20
"""Bytes of the largest signed plan that is read."""
MAX_USERS = 2**26
"""Installations that one answer may sum: with `MAX_GRID`, no coordinate leaves the exact range of float64."""


class DpMode(StrEnum):
    """Who adds the noise."""

    DISTRIBUTED = "distributed"
    """Each device a share, before anything leaves it: with masks the server sees one noised sum."""
    LOCAL = "local"
    """Each device all of its own, before anything leaves it: it trusts neither the server nor other devices."""
    CENTRAL = "central"
    """The server, after the sum: it sees each clipped update."""
    OFF = "off"
    """Nobody: research only, stamped on every artefact."""


class Noise(StrEnum):
    """Where the noise comes from."""

    SECURE = "secure"
    """The operating system's random source: the only noise a release may carry."""
    SEEDED = "seeded"
    """A seed, for repeatable experiments: not for release."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(_Frozen):
    """The noised steps that each device makes in a round where the unit is one event, with dp local."""

    inclusion: float = Field(ge=LEAST_INCLUSION, le=1)
    """Probability with which an event takes part in a step, by the device's own secret coins."""
    steps: int = Field(ge=1, le=MAX_STEPS)
    """Noised sums, the one that is sent included."""


class RoundPlan(_Frozen):
    """What one attempt at one round asks of a device, and what it costs."""

    version: Literal[1] = 1
    population: str
    run: str
    round: int = Field(ge=0)
    attempt: int = Field(ge=0)
    model_hash: str
    """SHA-256 of the model file the round starts from."""
    algorithm: str
    settings: dict[str, Any]
    facts: PublicFacts
    layout: Layout
    clip_norm: float = Field(ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    grid: int = Field(ge=1, le=MAX_GRID)
    """Steps per clip norm: the L2 sensitivity of the sum, in steps."""
    sigma: int = Field(ge=0)
    """Standard deviation of the noise, in steps: of each device's with `local`, else of the sum's; 0 with `off`."""
    dp: DpMode
    noise: Noise
    cohort_floor: int = Field(ge=1)
    """Fewer accepted contributions than this, and nothing is released."""
    per_node: int = Field(default=1, ge=1, le=MAX_USERS, exclude_if=lambda installations: installations == 1)
    """Installations that one answer may speak for. One in a deployment; a simulated node hosts many."""
    cohort: CohortTerms | None = None
    """Who shares the noise; with `distributed`, and only then."""
    events: Sampling | None = Field(default=None, exclude_if=lambda events: events is None)
    """Where the unit is one event and not the user: the steps. With `local` only."""
    mu2: float = Field(ge=0, allow_inf_nan=False)
    """What this attempt costs each installation, as squared mu-GDP parameter; 0 only with `off`."""
    expires: int
    """Unix seconds after which a device refuses."""

    @model_validator(mode="after")
    def _names_its_blocks(self) -> Self:
        names = {spec.name for spec in self.layout}
        if not names or len(names) < len(self.layout):
            raise ValueError("a layout has at least one block, and each has a name of its own")
        if (self.dp is DpMode.DISTRIBUTED) != (self.cohort is not None):
            raise ValueError("a cohort is given with dp distributed, and only then")
        if self.events is not None and self.dp is not DpMode.LOCAL:
            raise ValueError("the unit may be one event with dp local only")
        return self

    @property
    def noised_by_devices(self) -> bool:
        """Whether each device adds noise before anything leaves it: a share of it, or all."""
        return self.dp in (DpMode.DISTRIBUTED, DpMode.LOCAL)

    @property
    def share_sigma(self) -> int:
        """Where devices add the noise: standard deviation of what one of them adds, in steps.

        Raises:
            InputError: another dp mode.
        """
        return self.sigma if self.dp is DpMode.LOCAL else share_sigma(sigma=self.sigma, shares=self._cohort.shares)

    @property
    def mu2_alone(self) -> float:
        """What this attempt costs an installation if all others are the adversary's: its own noise, and no other.

        Infinite where that is none, or less than the accounting has a rule for.
        """
        if self.dp is DpMode.LOCAL:
            return self.mu2
        share = self.share_sigma if self.cohort is not None else 0
        return charged_mu2(sensitivity=self.grid, sigma=share) if share >= CENTRAL_SIGMA_FLOOR else math.inf

    @property
    def modulus_bits(self) -> int:
        """With `distributed`: bits in which a coordinate of the sum can't wrap."""
        return modulus_bits(n_max=self._cohort.n_max, grid=self.grid, share=self.share_sigma)

    def bits(self, users: int) -> int:
        """Where devices add the noise: bits in which no coordinate of a noised sum over `users` of them can wrap."""
        if self.dp is DpMode.LOCAL:
            return modulus_bits(n_max=users, grid=self.grid, share=self.sigma)
        return self.modulus_bits

    @property
    def least(self) -> int:
        """Contributions without which nothing is released."""
        return self.cohort_floor if self.cohort is None else max(self.cohort_floor, self.cohort.n_min)

    @property
    def _cohort(self) -> CohortTerms:
        if self.cohort is None:
            raise InputError(f"only a plan with dp distributed has shares of noise, got dp {self.dp}")
        return self.cohort

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical plan: what the ledger is charged with."""
        return digest(canonical_json(self.model_dump(mode="json")))


class ChargeProof(Shown):
    """Proof that the ledger was charged for the plan before it was signed: in the state of the ledger that it shows."""

    entry: dict[str, Any]
    """The ledger entry, a leaf of the log."""
    inclusion: tuple[str, ...]
    """RFC 9162 inclusion proof of the entry in the checkpoint."""


class SignedPlan(_Frozen):
    """A plan, its charge, and the release key's signature over both."""

    plan: RoundPlan
    charge: ChargeProof | None
    """None with `off`: nothing is charged and nothing is protected."""
    signature: str

    def to_bytes(self) -> bytes:
        """The plan as it travels."""
        return canonical_json(self.model_dump(mode="json"))


def sign_plan(plan: RoundPlan, charge: ChargeProof | None, key: SigningKey) -> SignedPlan:
    """Sign a plan together with the proof of its charge."""
    return SignedPlan(plan=plan, charge=charge, signature=key.sign(PLAN_TAG, _payload(plan, charge)))


def signed_bytes(signed: SignedPlan) -> bytes:
    """What the signature of a plan is over."""
    return _payload(signed.plan, signed.charge)


def read_plan(data: bytes) -> SignedPlan:
    """A plan that nobody has verified: nothing but a refusal, or what to fetch, may follow from what it says.

    Raises:
        IntegrityError: no plan, another spelling of one, or more than `MOST_PLAN` bytes.
    """
    try:
        # Read before it is validated: the errors of JSON that is validated as it is read each hold all of it.
        signed = SignedPlan.model_validate(read_canonical(data, most=MOST_PLAN))
        same = signed.to_bytes() == data
    except (IntegrityError, ValidationError, InputError):
        same = False
    if not same:
        raise IntegrityError(f"a plan must be signed canonical JSON, got {len(data)} other bytes")
    return signed


def open_plan(
    data: bytes,
    *,
    public_key: str,
    last_seen: Callable[[str], Checkpoint | None],
    evidence: Callable[[str], bytes | None] = lambda _: None,
    accept: Callable[[RoundPlan], None] = lambda _: None,
) -> SignedPlan:
    """Verify a plan as a device does: signature, floors, cost, charge, and that the ledger only ever grew.

    Args:
        data: the signed plan's bytes.
        public_key: the release key pinned on the device, Ed25519, hex.
        last_seen: the last checkpoint the device saw of a population's ledger, or None.
        evidence: the signed bytes that it came in, or None: what a restored ledger must not have forgotten.
        accept: the device's own floors, which raise. They come before anything is counted: a plan that a device
            wouldn't answer anyway costs it nothing but a signature.

    Raises:
        IntegrityError: any part does not verify.
        InputError: less noise than the accounting has a rule for.
    """
    signed = read_plan(data)
    plan, charge = signed.plan, signed.charge
    verify(public_key, PLAN_TAG, _payload(plan, charge), signed.signature)
    accept(plan)
    _verify_cost(plan)
    if (plan.dp is DpMode.OFF) != (charge is None):
        raise IntegrityError(f"a plan with dp {plan.dp} must {'not ' if plan.dp is DpMode.OFF else ''}carry a charge")
    if charge is not None:
        _verify_charge(plan, charge)
        seen = last_seen(plan.population)
        check_growth("plan", charge, seen=seen, evidence=lambda: evidence(plan.population), spent=spend_shown(data))
    return signed


def _verify_cost(plan: RoundPlan) -> None:
    """The cost is what grid and noise amount to: a device's limits mean nothing if it takes the plan's word for it."""
    private = plan.dp is not DpMode.OFF
    if private != (plan.sigma > 0) or (not private and plan.mu2 > 0):
        raise IntegrityError(f"a plan with dp {plan.dp} must have noise and a cost with privacy, and only then")
    owed = attempt_mu2(plan.grid, plan.sigma, plan.events) if private else 0.0
    if plan.mu2 < owed:
        raise IntegrityError(f"`mu2` of a plan must be at least what its noise costs, {owed}, got {plan.mu2}")


def attempt_mu2(grid: int, sigma: int, events: Sampling | None) -> float:
    """What an attempt costs, as mu^2: of the user, or of one event where there are steps on the device."""
    if events is None:
        return charged_mu2(sensitivity=grid, sigma=sigma)
    return sampled_mu2(sensitivity=grid, sigma=sigma, inclusion=events.inclusion, steps=events.steps)


def _verify_charge(plan: RoundPlan, charge: ChargeProof) -> None:
    """The charge is for this very plan, is one that a ledger admits, and is in the log."""
    try:
        entry = entry_from(charge.entry)
    except InputError as error:
        raise IntegrityError(f"a charge must be an entry of the ledger, got: {error}") from None
    if not isinstance(entry, ChargeEntry) or entry.leaf() != canonical_json(charge.entry):
        raise IntegrityError("a charge must be an entry of the ledger, got another spelling of one, or another kind")
    expected = {"run": plan.run, "round": plan.round, "attempt": plan.attempt, "plan_hash": plan.hash, "mu2": plan.mu2}
    wrong = [name for name, value in expected.items() if getattr(entry, name) != value]
    if wrong:
        raise IntegrityError(f"the charged plan must be this plan, but `{wrong[0]}` differs")
    now = charge.checkpoint
    verify_inclusion(entry.leaf(), index=entry.seq, size=now.size, root=now.root, proof=charge.inclusion)


def _payload(plan: RoundPlan, charge: ChargeProof | None) -> bytes:
    """The signed bytes."""
    parts: Mapping[str, Any] = {
        "plan": plan.model_dump(mode="json"),
        "charge": None if charge is None else charge.model_dump(mode="json"),
    }
    return canonical_json(parts)
