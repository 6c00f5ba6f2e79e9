"""Contribution: a device, or a batch of simulated ones, takes part in one round.

    signed plan + model -> verify, the device's floors first -> its own ledger -> Update -> ClippedUpdate -> bytes

The order protects the user: a plan is verified and charged to the device's own ledger before anything is computed from
behaviour, and only the clipped sum is ever returned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from palate_client.rounds.purposes import purpose_of
from palate_common.accounting.sampled import event_mu2
from palate_common.algorithms import EventAlgorithm
from palate_common.algorithms.base import facts_of
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.mechanism.update import ClippedSum, ClippedUpdate
from palate_common.models.model import GlobalModel
from palate_common.rounds.event_steps import event_steps
from palate_common.rounds.shares import add_shares, share_source
from palate_common.rounds.wire import REFUSED, ContributionHeader, encode, encode_share, vector_bytes
from palate_core.device.attempt import MaskedDevice
from palate_core.device.floors import Floors
from palate_core.device.ledger import DeviceLedger
from palate_core.device.participation import KeptPlan, Seen, States, VerifiedPlan, keep_state, verify_plan
from palate_core.errors import InputError, IntegrityError, PalateError, RefusedError
from palate_core.layout import layout_size, released_size
from palate_core.log.canonical import digest
from palate_core.log.merkle import Checkpoint
from palate_core.log.pinned import Pinned
from palate_core.log.signing import SigningKey
from palate_core.masks.attempt_terms import attempt_terms
from palate_core.masks.directory import Directory
from palate_core.noise.randomness import Source
from palate_core.noise_share import ClearSum, NoisedVector, add_share
from palate_core.plan import ChargedPlan, RoundPlan, signer

Joined = tuple[ChargedPlan | None, npt.NDArray[np.bool_]]
"""The plan, if any device of a node is charged for it; and which are: bool [n], in the order asked."""
AT_LIMIT = "every installation here has reached a limit of its own"
USERS_AT_ONCE = 16_384
"""Simulated users of a node whose updates are in memory at the same time."""


def show_nobody(_users: int) -> None:
    """Show nobody how far a node is."""


@dataclass
class ModelReader:
    """Verifies and reads the model of a plan: once for all nodes of a process that share a reader.

    **Guarantees:** a model is used only if its bytes have the hash that the signed plan names.
    """

    _latest: tuple[bytes, str, GlobalModel] | None = field(default=None, init=False, repr=False)

    def read(self, data: bytes, named: str) -> GlobalModel:
        """The model in `data`, whose SHA-256 must be `named`. Its arrays can't be written, because nodes share it.

        Raises:
            IntegrityError: another model, or not a model file.
        """
        latest = self._latest
        # Bytes can't change: the same object, which is kept here, has the hash that was computed of it.
        known = latest is not None and latest[0] is data
        if (latest[1] if latest is not None and known else digest(data)) != named:
            raise IntegrityError("the model must be the one the plan names, got another")
        if latest is not None and latest[1] == named:
            return latest[2]
        model = GlobalModel.from_bytes(data)
        for array in model.state.values():
            array.flags.writeable = False
        self._latest = (data, named, model)
        return model


@dataclass(frozen=True)
class Identity:
    """A device's identity in secure aggregation.

    Attributes:
        key: its own signing key.
        directory: who else is invited, as it came with the plan.
    """

    key: SigningKey
    directory: Directory

    @classmethod
    def among(cls, directory: bytes, plan: RoundPlan, key: SigningKey) -> Self:
        """An identity, with the directory as it came with a plan.

        Raises:
            InputError: it is no directory of an attempt with so many sub-cohorts.
        """
        return cls(key, Directory.from_bytes(directory, 1 if plan.cohort is None else plan.cohort.subcohorts))


class Histories(Protocol):
    """Private interactions that are read only after a plan was verified and charged, such as `Interactions`."""

    @property
    def n_users(self) -> int:
        """Number of installations."""

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""

    def users(self, rows: slice | npt.NDArray[np.integer[Any]]) -> Interactions:
        """The interactions of some installations."""


class Participations(States, Protocol):
    """The ledgers of the installations that a node hosts: `OneDevice`, or one of simulated devices."""

    def join(self, kept: KeptPlan, *, n_bytes: int, purpose: str, devices: Sequence[int]) -> Joined:
        """As `DeviceLedger.charge`, for each of the devices."""

    def affords(self, plan: RoundPlan, *, devices: Sequence[int]) -> npt.NDArray[np.bool_]:
        """As `DeviceLedger.affords`, for each of the devices."""

    def latch(self, step: str, digest: str, *, device: int, run: str, round_: int, attempt: int) -> None:
        """As `DeviceLedger.latch`, for one of them."""


@dataclass(frozen=True)
class OneDevice:
    """The ledger of the only installation that a node hosts: whatever number a server gives it, it is the same one.

    Attributes:
        ledger: the installation's own.
    """

    ledger: DeviceLedger

    def join(self, kept: KeptPlan, *, n_bytes: int, purpose: str, devices: Sequence[int]) -> Joined:
        """As `DeviceLedger.charge`."""
        _check_alone(devices)
        charged = self.ledger.charge(kept, n_bytes=n_bytes, purpose=purpose)
        return charged, np.array([charged is not None])

    def affords(self, plan: RoundPlan, *, devices: Sequence[int]) -> npt.NDArray[np.bool_]:
        """As `DeviceLedger.affords`."""
        _check_alone(devices)
        return np.array([self.ledger.affords(plan)])

    def latch(self, step: str, digest: str, *, device: int, **place: Any) -> None:
        """As `DeviceLedger.latch`."""
        _check_alone([device])
        self.ledger.latch(step, digest, **place)

    def seen(self, population: str) -> Seen:
        """As `DeviceLedger.seen`."""
        return self.ledger.seen(population)

    def see(self, population: str, checkpoint: Checkpoint, signed: bytes = b"", *, after: Checkpoint | None) -> None:
        """As `DeviceLedger.see`."""
        self.ledger.see(population, checkpoint, signed, after=after)


def _check_alone(devices: Sequence[int]) -> None:
    """Refuse more or less than one installation."""
    if len(devices) != 1:
        raise InputError(f"a device's own ledger must be asked for one device, got {len(devices)}")


@dataclass
class Contributor:
    """One installation, or a batch of simulated ones, that answers signed plans.

    Attributes:
        histories: the private interactions, one row per installation.
        devices: the installations' numbers in the device ledger, in row order.
        ledger: the devices' own ledger.
        public_key: the pinned release key.
        floors: the conditions of the devices on a plan.
        clock: returns the time in seconds since 1970.
        catalogue: hash of the item ids of the histories; None: any catalogue of the right size.
        reader: reads models; nodes of one process may share it.
        advance: called with a number of users whose updates are made, to show how far a large node is.
        pinned: the release key with the witnesses that the app pins; None: it pins none.
        refusal: why the last plan was refused, for the user; empty if it was answered.

    Raises:
        InputError: `devices` hasn't one number per row of `histories`.
    """

    histories: Histories
    devices: Sequence[int]
    ledger: Participations
    public_key: str
    floors: Floors
    clock: Callable[[], float] = time.time
    catalogue: str | None = None
    reader: ModelReader = field(default_factory=ModelReader)
    advance: Callable[[int], None] = show_nobody
    pinned: Pinned | None = field(kw_only=True)
    refusal: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if len(self.devices) != self.histories.n_users:
            raise InputError(f"`devices` must be one a user, {self.histories.n_users}, got {len(self.devices)}")

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal, which doesn't contain the reason."""
        self.refusal = ""
        try:
            return self.contribute(plan, model)
        except PalateError as error:
            self.refusal = str(error)
            return REFUSED

    def wanted_model(self, signed_plan: bytes) -> str:
        """The hash of a plan's model, once all is checked of the plan that needs no model. Nothing is charged.

        Raises:
            IntegrityError: the plan does not verify.
            RefusedError: as `contribute`: it would not be charged.
        """
        plan = self._verify_plan(signed_plan).signed.plan
        if not self.ledger.affords(plan, devices=self.devices).any():
            raise RefusedError(AT_LIMIT)
        return plan.model_hash

    def contribute(self, signed_plan: bytes, model_bytes: bytes) -> bytes:
        """Take part in one attempt.

        Args:
            signed_plan: `SignedPlan` bytes.
            model_bytes: the model file that the plan names.

        Returns:
            A contribution in wire format: the clipped sum over the installations that took part.

        **Guarantees:** nothing is computed from behaviour before the plan is verified and charged.
        **Guarantees:** an attempt is answered at most once.
        **Guarantees:** how many answer does not depend on what anybody did: a history that the algorithm can't work on
        counts as one without events.
        **Assumes:** the algorithm contributes for each user from that user's history alone, and for one without events.

        Raises:
            IntegrityError: the plan or the model does not verify.
            RefusedError: the plan is below the floors, expired, answered before, for another catalogue, or exceeds the
                limits of every device.
            InputError: the algorithm's contribution does not fit the plan's layout, or the batch.
        """
        verified, model = self._verify(signed_plan, model_bytes)
        plan = verified.signed.plan
        if plan.cohort is not None and plan.cohort.masks:
            raise RefusedError("a plan with masks must be answered under masks")
        charged, joined = self._charge_once(verified)
        histories = self._read(joined)
        devices = self.devices if joined.all() else [self.devices[int(row)] for row in np.flatnonzero(joined)]
        shared = plan.mode.noised_by_devices
        answer = ContributionHeader(
            run=plan.run,
            round=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            users=histories.n_users,
            rejected=len(joined) - histories.n_users,
            size=released_size(plan.layout) if shared else layout_size(plan.layout),
        )
        clear = self._add_noise(charged, model, histories, share_source(plan, devices))
        if not shared:
            return encode(answer, clear, grid=plan.grid)
        return encode_share(answer, clear, bits=plan.bits(histories.n_users))

    def _add_noise(self, charged: ChargedPlan, model: GlobalModel, histories: Interactions, source: Source) -> ClearSum:
        """The contribution with the devices' noise: on the clipped sum, or in each step if the unit is an event."""
        plan = charged.plan
        if plan.events is None:
            return add_shares(self._clip_joined(plan, model, histories), charged, source)
        if not isinstance(model.algorithm, EventAlgorithm):  # a whole user's part is not what the plan has charged
            raise RefusedError("an algorithm for single events must derive from EventAlgorithm, and does not")
        return event_steps(model.algorithm, model.state, plan, histories, source)

    def join(self, signed_plan: bytes, model_bytes: bytes, identity: Identity) -> MaskedDevice:
        """Take part in one masked attempt; returns the device's state machine for its messages.

        **Guarantees:** the attempt is verified, then charged, before anybody has the machine; what doesn't fit is not
        charged.
        **Guarantees:** nothing is computed from behaviour before the machine has checked who else takes part.

        Raises:
            IntegrityError, RefusedError: as `contribute`.
            InputError: this node hosts more than one installation, or the identity is another device's.
        """
        if len(self.devices) != 1:
            raise InputError(f"with masks a node must be one installation, got {len(self.devices)}")
        verified, model = self._verify(signed_plan, model_bytes)
        plan, device = verified.signed.plan, int(self.devices[0])

        def vector() -> NoisedVector:  # asked for once the plan is charged, below: what doesn't fit isn't charged
            clipped = self._clip_joined(plan, model, self._read(np.ones(1, np.bool_)))
            return add_share(clipped.total(), charged, share_source(plan, self.devices))

        machine = MaskedDevice(
            attempt_terms(verified.signed),
            id=device,
            identity=identity.key,
            directory=identity.directory,
            server_key=signer(verified.signed, self.public_key),
            vector=vector,
            latch=partial(self.ledger.latch, device=device, run=plan.run, round_=plan.round, attempt=plan.attempt),
        )
        charged, _ = self._charge_once(verified)
        return machine

    def _verify(self, signed_plan: bytes, model_bytes: bytes) -> tuple[VerifiedPlan, GlobalModel]:
        """The plan, checked against the floors and what was seen of the ledger, and its model."""
        verified = self._verify_plan(signed_plan)
        return verified, self._read_model(verified.signed.plan, model_bytes)

    def _verify_plan(self, signed_plan: bytes) -> VerifiedPlan:
        """The plan, checked against the floors and what these devices have seen of the ledger."""
        return verify_plan(
            signed_plan,
            public_key=self.public_key,
            pinned=self.pinned,
            floors=self.floors,
            now=self.clock(),
            states=self.ledger,
            event_price=event_mu2,
        )

    def _charge_once(self, verified: VerifiedPlan) -> tuple[ChargedPlan, npt.NDArray[np.bool_]]:
        """Charge the plan; returns it, and which of the installations take part, bool [n_users].

        The state of the ledger that it shows is kept first: where another was seen meanwhile, nobody is charged.
        """
        charged, joined = self._write_charge(keep_state(verified, self.ledger))
        if charged is None:
            raise RefusedError(AT_LIMIT)
        return charged, joined

    def _read_model(self, plan: RoundPlan, data: bytes) -> GlobalModel:
        """The model that the plan names; it must have the catalogue of these histories."""
        model = self.reader.read(data, plan.model_hash)
        header = model.header
        if (header.algorithm, header.settings, header.facts) != (plan.algorithm, plan.settings, facts_of(plan)):
            raise IntegrityError("the model must have the algorithm, settings and facts that the plan names")
        if model.algorithm.unit != ("user" if plan.events is None else "event"):
            raise RefusedError("the algorithm must be one of the plan's unit, got another")
        if self.catalogue not in (None, header.catalogue):
            raise RefusedError("the catalogue must be the one this device has its items from, got another")
        if header.facts.n_items != self.histories.n_items:
            raise RefusedError(f"the catalogue must have {self.histories.n_items} items, got {header.facts.n_items}")
        return model

    def _write_charge(self, kept: KeptPlan) -> Joined:
        """Write the participation to the ledger; returns which devices may take part."""
        n_bytes, purpose = vector_bytes(kept.plan), purpose_of(kept.plan)
        return self.ledger.join(kept, n_bytes=n_bytes, purpose=purpose, devices=self.devices)

    def _read(self, joined: npt.NDArray[np.bool_]) -> Interactions:
        """What some installations did. What can't be read counts as no events: a refusal would say something of it."""
        try:
            return self.histories.users(slice(None) if joined.all() else np.flatnonzero(joined))
        except Exception:
            return Interactions.from_pairs([], [], n_users=int(joined.sum()), n_items=self.histories.n_items)

    def _clip_joined(self, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> ClippedUpdate | ClippedSum:
        """Train and clip, many users one part after the other. The sum is the same integers, however it is cut."""
        if histories.n_users <= USERS_AT_ONCE:
            return self._clip_part(plan, model, histories)
        firsts = range(0, histories.n_users, USERS_AT_ONCE)
        parts = (self._clip_part(plan, model, histories.users(slice(each, each + USERS_AT_ONCE))) for each in firsts)
        return ClippedSum.of(parts, plan.layout, grid=plan.grid)

    def _clip_part(self, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> ClippedUpdate:
        """Train and clip. If the algorithm fails for a user, they count as one without events: a failure would leak."""
        clipped = self._train_or_fall_back(plan, model, histories)
        self.advance(histories.n_users)
        return clipped

    def _train_or_fall_back(self, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> ClippedUpdate:
        """As `_clip_part`, which shows how far it is."""
        try:
            return self._train_and_clip(plan, model, histories)
        except Exception:
            # If it fails even without events, the failure doesn't depend on behaviour.
            if not self._can_train(plan, model, histories.user(0).only(np.zeros(1, np.bool_))):
                raise
        works = [self._can_train(plan, model, histories.user(row)) for row in range(histories.n_users)]
        return self._train_and_clip(plan, model, histories.only(np.asarray(works, np.bool_)))

    def _can_train(self, plan: RoundPlan, model: GlobalModel, history: Interactions) -> bool:
        """Whether the algorithm succeeds for one user's history."""
        try:
            self._train_and_clip(plan, model, history)
        except Exception:
            return False
        return True

    def _train_and_clip(self, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> ClippedUpdate:
        """The clipped contributions of a batch. Only here does behaviour become an update."""
        update = model.algorithm.contribute(model.state, plan.round, histories)
        if update.n_users != histories.n_users:
            raise InputError(f"an algorithm must contribute once a user, {histories.n_users}, got {update.n_users}")
        return clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
