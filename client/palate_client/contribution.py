"""Contribution: a device, or a shard of simulated ones, takes part in one round.

    signed plan + model -> verify -> the device's floors -> its own ledger -> Update -> ClippedUpdate -> bytes

The order is the point: a plan is verified and charged to the device's own ledger before anything is computed from
behaviour, and only the clipped sum has a way out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate_client.training import train
from palate_common.clipping import clip
from palate_common.device_ledger import DeviceLedger
from palate_common.errors import IntegrityError, PalateError, RefusedError
from palate_common.interactions import Interactions
from palate_common.model import GlobalModel
from palate_common.plan import DpMode, Noise, RoundPlan, open_plan
from palate_common.update import ClippedUpdate, layout_size
from palate_common.wire import REFUSED, ContributionHeader, dtype_for, encode


@dataclass(frozen=True)
class Floors:
    """What a device insists on whatever a plan says. The defaults are an app's; experiments loosen them by name."""

    min_sigma: int = 64
    """Noise below this, in steps, is refused: the accounting rule needs it."""
    max_mu2: float = float("inf")
    """The most one attempt may cost."""
    min_cohort: int = 1
    """A cohort floor below this is refused."""
    allow_seeded: bool = False
    """Whether experiments' seeded noise is accepted."""
    allow_off: bool = False
    """Whether a plan without privacy is accepted."""


@dataclass
class Contributor:
    """One installation, or a shard of simulated ones, that answers signed plans.

    Attributes:
        histories: the private interactions, one row an installation.
        devices: the installations' numbers in the device ledger, in row order.
        ledger: the devices' own ledger.
        public_key: the pinned release key.
        floors: what the devices insist on.
        clock: Unix time in seconds.
    """

    histories: Interactions
    devices: Sequence[int]
    ledger: DeviceLedger
    public_key: str
    floors: Floors = field(default_factory=Floors)
    clock: Callable[[], float] = time.time

    def answer(self, plan: bytes, model: bytes) -> bytes:
        """A contribution's bytes, or the constant refusal: why a device refuses stays on the device."""
        try:
            return self.contribute(plan, model)
        except PalateError:
            return REFUSED

    def contribute(self, signed_plan: bytes, model_bytes: bytes) -> bytes:
        """Take part in one attempt.

        Args:
            signed_plan: `SignedPlan` bytes.
            model_bytes: the model file the plan names.

        Returns:
            A contribution in wire format: the clipped sum over the installations that took part.

        Guarantees:
            Nothing is computed from behaviour before the plan is verified and charged.
            An attempt is answered at most once.

        Raises:
            IntegrityError: the plan or the model does not verify.
            RefusedError: the plan is below the floors, expired, answered before, or above a device's own limits.
        """
        signed = open_plan(signed_plan, public_key=self.public_key, last_seen=self.ledger.seen_checkpoint)
        plan = signed.plan
        check_floors(plan, self.floors, now=self.clock())
        model = GlobalModel.from_bytes(model_bytes)
        if model.hash != plan.model_hash or (model.header.algorithm, model.header.facts) != (
            plan.algorithm,
            plan.facts,
        ):
            raise IntegrityError("the model must be the one the plan names, got another")
        joined = self._charge(plan)
        if signed.charge is not None:
            self.ledger.see(plan.population, signed.charge.checkpoint)
        histories = self.histories if joined.all() else self.histories.users(np.flatnonzero(joined))
        clipped = self._clipped(plan, model, histories)
        users = int(clipped.accepted.sum())
        if users == 0:
            raise RefusedError("no installation of this node could take part")
        answer = ContributionHeader(
            run=plan.run,
            round=plan.round,
            attempt=plan.attempt,
            plan_hash=plan.hash,
            users=users,
            rejected=len(self.devices) - users,
            size=layout_size(plan.layout),
        )
        return encode(answer, clipped)

    def _charge(self, plan: RoundPlan) -> npt.NDArray[np.bool_]:
        """Write the participation to the devices' own ledger; which of them may take part, bool [n_users]."""
        per_device = layout_size(plan.layout) * dtype_for(1, plan.grid).itemsize
        return self.ledger.charge(
            plan.hash,
            run=plan.run,
            round_=plan.round,
            attempt=plan.attempt,
            mu2=plan.mu2,
            n_bytes=per_device,
            devices=self.devices,
        )

    def _clipped(self, plan: RoundPlan, model: GlobalModel, histories: Interactions) -> ClippedUpdate:
        """Train on the device, then clip."""
        update = train(model, plan.round, histories)
        return clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)


def check_floors(plan: RoundPlan, floors: Floors, *, now: float) -> None:
    """Refuse a plan that asks for less protection than the device insists on.

    Raises:
        RefusedError: naming the floor.
    """
    refusals = (
        (now > plan.expires, "the plan has expired"),
        (plan.dp is DpMode.OFF and not floors.allow_off, "this device takes no part without privacy"),
        (plan.noise is Noise.SEEDED and not floors.allow_seeded, "this device accepts no seeded noise"),
        (plan.dp is not DpMode.OFF and plan.sigma < floors.min_sigma, f"`sigma` must be >= {floors.min_sigma} steps"),
        (plan.mu2 > floors.max_mu2, f"one attempt may cost mu^2 <= {floors.max_mu2}, got {plan.mu2}"),
        (plan.cohort_floor < floors.min_cohort, f"`cohort_floor` must be >= {floors.min_cohort}"),
    )
    for refused, reason in refusals:
        if refused:
            raise RefusedError(reason)
