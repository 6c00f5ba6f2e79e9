"""RoundPlan: the signed contract from which each attempt at a round starts.

The server fixes everything in the plan, charges its ledger with the plan's hash, and signs plan, charge and ledger
checkpoint together. A device verifies all of it before it computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from palate_core.accounting import CENTRAL_SIGMA_FLOOR, charged_mu2
from palate_core.cohort_terms import CohortTerms
from palate_core.errors import InputError, IntegrityError, RefusedError
from palate_core.layout import CLIP_NORMS, MAX_GRID, Layout
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import Shown, check_growth, check_pinned, spend_shown
from palate_core.log.entries import ChargeEntry, entry_from
from palate_core.log.handovers import signer_of
from palate_core.log.merkle import Checkpoint, verify_inclusion
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey, verify
from palate_core.privacy_mode import DpMode, PrivacyMode, mode_of

PLAN_TAG = "palate/plan/1"
MOST_PLAN = 2**20
"""Bytes of the largest signed plan that is read."""
MAX_USERS = 2**26
"""Most installations in one answer's sum: with `MAX_GRID`, every coordinate is exact in float64."""
MAX_STEPS = 64
"""Most noised sums of a device in one attempt, where the unit is one event."""
LEAST_INCLUSION = 1e-3
"""The least probability that an event takes part in such a sum."""


class Noise(StrEnum):
    """Where the noise comes from."""

    SECURE = "secure"
    """The operating system's random source: the only noise a release may carry."""
    SEEDED = "seeded"
    """A seed, for repeatable experiments: not for release."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _plain(facts: object) -> object:
    """Facts as JSON has them, also of a model of pydantic's."""
    return facts.model_dump(mode="json") if isinstance(facts, BaseModel) else facts


class Sampling(_Frozen):
    """The noised steps that each device makes in a round where the unit is one event, with dp local."""

    inclusion: float = Field(ge=LEAST_INCLUSION, le=1)
    """Probability that an event takes part in a step, by secret coins of the device."""
    steps: int = Field(ge=1, le=MAX_STEPS)
    """Noised sums, the one that is sent included."""


class RoundPlan(_Frozen):
    """What one attempt at one round asks of a device, and what it costs."""

    version: Literal[1] = 1
    population: str
    run: str = Field(min_length=1)
    round: int = Field(ge=0, lt=2**31)
    attempt: int = Field(ge=0, lt=2**31)
    model_hash: str
    """SHA-256 of the model file the round starts from."""
    algorithm: str
    settings: dict[str, Any]
    facts: Annotated[dict[str, Any], BeforeValidator(_plain)]
    """Public numbers that the algorithm knows before the first release; what they mean is its business."""
    layout: Layout
    clip_norm: float = Field(ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    grid: int = Field(ge=1, le=MAX_GRID)
    """Steps per clip norm: the L2 sensitivity of the sum, in steps."""
    sigma: int = Field(ge=0)
    """Standard deviation of the noise, in steps: each device's noise with `local`, else the sum's; 0 with `off`."""
    dp: DpMode
    noise: Noise
    cohort_floor: int = Field(ge=1)
    """Fewest accepted contributions for a release; at most `n_min` of the cohort, with which a sum is opened."""
    per_node: int = Field(default=1, ge=1, le=MAX_USERS, exclude_if=lambda installations: installations == 1)
    """Installations that one answer may speak for. One in a deployment; a simulated node hosts many."""
    cohort: CohortTerms | None = None
    """The devices that share the noise; with `distributed`, and only then."""
    events: Sampling | None = Field(default=None, exclude_if=lambda events: events is None)
    """The noised steps, where the unit is one event and not the user; with `local` only."""
    mu2: float = Field(ge=0, allow_inf_nan=False)
    """What this attempt costs each installation, as squared mu-GDP parameter; 0 only with `off`."""
    expires: int
    """Unix seconds after which a device refuses."""

    @model_validator(mode="after")
    def _names_its_blocks(self) -> Self:
        names = {spec.name for spec in self.layout}
        if not names or len(names) < len(self.layout):
            raise ValueError("a layout has at least one block, and each has a name of its own")
        self.mode.check(self.cohort, self.events, cohort_floor=self.cohort_floor)
        if self.cohort is not None and self.cohort.masks != (self.cohort.directory is not None):
            raise ValueError("a plan names a directory of identities with masks, and only then")
        return self

    @property
    def mode(self) -> PrivacyMode:
        """The privacy mode of `dp`."""
        return mode_of(self.dp)

    @property
    def share_sigma(self) -> int:
        """Standard deviation of the noise that one device adds, in steps.

        Raises:
            InputError: with this dp mode, devices add no noise.
        """
        if not self.mode.noised_by_devices:
            raise InputError(f"only where devices add the noise has a plan shares of it, got dp {self.dp}")
        return self.mode.device_sigma(sigma=self.sigma, cohort=self.cohort)

    @property
    def mu2_alone(self) -> float:
        """What this attempt costs an installation, as mu^2, if all others collude: only its own noise counts.

        Infinite where it adds no noise, or less than the accounting covers.
        """
        if self.mode.alone:
            return self.mu2
        share = self.mode.device_sigma(sigma=self.sigma, cohort=self.cohort)
        return charged_mu2(sensitivity=self.grid, sigma=share) if share >= CENTRAL_SIGMA_FLOOR else math.inf

    def bits(self, users: int) -> int:
        """Where devices add the noise: bits in which no coordinate of a noised sum over `users` of them can wrap.

        With a cohort they are those of its largest sum, whatever `users` is.
        """
        return self.mode.bits(users, grid=self.grid, sigma=self.sigma, cohort=self.cohort)

    @property
    def least(self) -> int:
        """Fewest contributions in a sum for its release."""
        return self.cohort_floor if self.cohort is None else self.cohort.n_min * self.cohort.together

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical plan: what the ledger is charged with."""
        return digest(canonical_json(self.model_dump(mode="json")))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values: it has a hash of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("hash", None)
        return copied


class ChargeProof(Shown):
    """Proof that the ledger was charged for the plan before it was signed, in a state of the ledger that it shows."""

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
        """The plan's bytes on the wire."""
        return canonical_json(self.model_dump(mode="json"))


@dataclass(frozen=True)
class ChargedPlan:
    """A plan that is charged, on this device's disk; made by `DeviceLedger.charge`. Only what it asks for is noised.

    A ledger of simulated devices makes it for all of a node.
    """

    plan: RoundPlan


def sign_plan(plan: RoundPlan, charge: ChargeProof | None, key: SigningKey) -> SignedPlan:
    """Sign a plan together with the proof of its charge."""
    return SignedPlan(plan=plan, charge=charge, signature=key.sign(PLAN_TAG, _payload(plan, charge)))


def signed_bytes(signed: SignedPlan) -> bytes:
    """The bytes that a plan's signature covers."""
    return _payload(signed.plan, signed.charge)


def signer(signed: SignedPlan, public_key: str) -> str:
    """The release key that must have signed a plan: the pinned one, or the one to which the plan's handovers lead.

    Raises:
        IntegrityError: they don't come from the pinned key, or one isn't signed by both of its keys.
    """
    handovers = () if signed.charge is None else signed.charge.handovers
    return signer_of(public_key, signed.plan.population, handovers)


def read_plan(data: bytes) -> SignedPlan:
    """Parse a plan without verifying it: it may only decide a refusal, or what to fetch.

    Raises:
        IntegrityError: no plan, another spelling of one, or more than `MOST_PLAN` bytes.
    """
    return _parsed(data)[0]


def read_signed(data: bytes, *, public_key: str) -> SignedPlan:
    """Parse a plan, and verify its signature alone: it may decide what to fetch before it is opened.

    Raises:
        IntegrityError: no plan, or not signed by that key, or by one to which the plan's handovers lead.
    """
    signed, payload = _parsed(data)
    verify(signer(signed, public_key), PLAN_TAG, payload, signed.signature)
    return signed


@lru_cache(maxsize=1)  # devices of a process are sent the same bytes, and each reads them more than once
def _parsed(data: bytes) -> tuple[SignedPlan, bytes]:
    """A plan, and the bytes that its signature covers."""
    try:
        # Parse, then validate: pydantic's errors on JSON text would each hold the whole text.
        signed = SignedPlan.model_validate(read_canonical(data, most=MOST_PLAN))
        same = signed.to_bytes() == data
    except (IntegrityError, ValidationError, InputError):
        same = False
    if not same:
        raise IntegrityError(f"a plan must be signed canonical JSON, got {len(data)} other bytes")
    return signed, signed_bytes(signed)


def open_plan(
    data: bytes,
    *,
    public_key: str,
    pinned: Pinned | None,
    last_seen: Callable[[str], Checkpoint | None],
    evidence: Callable[[str], bytes | None],
    accept: Callable[[RoundPlan], None],
    event_price: EventPrice,
) -> SignedPlan:
    """Verify a plan as a device does: signature, floors, cost, charge, witnesses, and that the ledger only ever grew.

    Args:
        data: the signed plan's bytes.
        public_key: the release key pinned on the device, Ed25519, hex.
        pinned: the same with the witnesses that the app pins; None: it pins none.
        last_seen: the last checkpoint the device saw of a population's ledger, or None.
        evidence: the signed bytes that showed it, or None: a restored ledger must include their spend.
        accept: checks the device's own floors, and raises. It runs before the cost is computed, so that a plan below
            the floors costs only a signature check.
        event_price: what a plan whose unit is one event costs, `refuse_events` where none is answered.

    Raises:
        IntegrityError: any part does not verify.
        InputError: less noise than the accounting covers.
    """
    signed = read_signed(data, public_key=public_key)
    plan, charge = signed.plan, signed.charge
    accept(plan)
    _verify_cost(plan, event_price)
    private = plan.mode.private
    if private != (charge is not None):
        raise IntegrityError(f"a plan with dp {plan.dp} must {'' if private else 'not '}carry a charge")
    if charge is not None:
        _verify_charge(plan, charge)
        seen, kept = last_seen(plan.population), evidence(plan.population)
        trusted = Pinned(plan.population, public_key) if pinned is None else pinned
        covered = check_pinned("plan", charge, pinned=trusted, evidence=kept)
        check_growth(covered, seen=seen, evidence=kept, spent=spend_shown(data))
    return signed


EventPrice = Callable[[RoundPlan], float]
"""mu^2 of an attempt whose unit is one event: a claim of its own, whose accounting is not in this package."""


def refuse_events(plan: RoundPlan) -> float:
    """The `EventPrice` of a device that answers no plan whose unit is one event.

    Raises:
        RefusedError: always.
    """
    raise RefusedError(f"a plan's unit must be the user, got single events in round {plan.round}")


def _verify_cost(plan: RoundPlan, event_price: EventPrice) -> None:
    """Compute the cost from grid and noise: a device must not trust the plan's number."""
    private = plan.mode.private
    if private != (plan.sigma > 0) or (not private and plan.mu2 > 0):
        raise IntegrityError(f"a plan with dp {plan.dp} must have noise and a cost with privacy, and only then")
    owed = 0.0
    if private:
        owed = charged_mu2(sensitivity=plan.grid, sigma=plan.sigma) if plan.events is None else event_price(plan)
    if plan.mu2 < owed:
        raise IntegrityError(f"`mu2` of a plan must be at least what its noise costs, {owed}, got {plan.mu2}")


def _verify_charge(plan: RoundPlan, charge: ChargeProof) -> None:
    """Check that the charge is a valid ledger entry, is for this very plan, and is in the log."""
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
