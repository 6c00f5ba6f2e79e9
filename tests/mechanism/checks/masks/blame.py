"""Blame: who breaks a masked attempt is named by what it has signed; nobody else is; and a box stays shut otherwise.

Real devices, of which some lie in signed words (`mechanism.secagg.hostile`), and a server that asks for openings
which nobody is due. Records are checked as a device or an auditor does, and are offered to another attempt, in another
name, and with another word in them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mechanism.checks.ledgers.books import done
from mechanism.secagg.adversary import Adversary
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.hostile import HOSTILE, PLANS, Turn, live
from palate_common.secagg.evidence import FaultEvidence, check
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import IntegrityError
from palate_core.masks.messages import HEADER, BoxReceipt, Complaint, Header, Step, write
from palate_server.secagg.conduct import Conduct

LIES = {
    "deals rubbish to all": "box",
    "deals false commitments to all": "box",
    "deals rubbish to two and opens otherwise": "opening",
    "complains of half": "complaint",
    "gives wrong shares of all": "share",
    "deals wrong shares to one": "dealt",
    "advertises one key twice": "advert",
    "is silent at open": None,
    "sends random bytes at check": None,
}
"""What one of eight devices does, and the kind of evidence that names it."""


def named() -> Iterator[str]:
    """The liar is named, alone, by evidence that holds; the attempt goes on without it."""
    for plan, kind in LIES.items():
        life = live(plan, devices=8, n_min=7, attempts=1)
        if life.named != ({} if kind is None else {HOSTILE: kind}):
            yield f"device {HOSTILE} {plan}: it must be named by {kind}, and nobody else, got {life.named}"
        if life.lost:
            yield f"an attempt is lost because a device {plan}"


def evidence() -> Iterator[str]:
    """A record holds in its own attempt, for its own device, as it is; a server takes no other."""
    world = MaskedCohort(8, n_min=7)
    for plan in ("deals rubbish to all", "gives wrong shares of all"):
        found = live(plan, devices=8, n_min=7, attempts=1).evidence
        if HOSTILE not in found:
            yield f"there must be a record of a device {plan}, got none"
            continue
        data = found[HOSTILE]
        record = FaultEvidence.from_bytes(data)
        if check(data, world.directory) != HOSTILE:
            yield "a record must name its device from its bytes alone"
        for what, other in {
            "of another attempt": record,
            "in another's name": record.model_copy(update={"device": 0, "attempt": world.terms.context.hex()}),
            "with another attempt written in": record.model_copy(update={"attempt": world.terms.context.hex()}),
            "of nothing": FaultEvidence(kind="silence", device=0, attempt=world.terms.context.hex(), toss=0),
        }.items():
            conduct = Conduct()
            if conduct.name(other, world.directory, context=world.terms.context) or conduct.named:
                yield f"a device is struck by a record {what}"


def openings() -> Iterator[str]:
    """A device opens a box for whoever has signed a complaint of it, once, before it masks; and for nobody else."""
    evil = Adversary(MaskedCohort(12, n_min=9))
    turn = Turn(Step.CHECK, evil.world.devices[2], evil.server.request(2), {}, {}, np.random.default_rng(1))
    signed = BoxReceipt.decode((PLANS["complains of half"][Step.CHECK](turn) or b"")[HEADER:], k=11)
    for device in range(12):
        evil.check(device, evil.all_but())
    before = [copy.copy(evil.world.devices[0]) for _ in range(5)]
    due = evil.forged_complaint(2, 0, receipt=signed)
    undue = {
        "without a signed complaint": [evil.forged_complaint(2, 0)],
        "without a complaint": [replace(due, receipt=replace(signed, accused=~signed.accused))],
        "for more than may be corrupt": [due, evil.forged_complaint(3, 0)],
        "of which another was complained of": [replace(due, path=evil.forged_complaint(2, 1).path)],
    }
    for machine, (what, complaints) in zip(before, undue.items(), strict=False):
        if _opens(evil, machine, complaints):
            yield f"a device opens a box {what}"
    other = Header(Step.OPEN, evil.held.toss + 1, 0, evil.world.terms.context)
    if done(lambda: before[-1].answer(Step.OPEN, write(other, due.encode(), answer=False))):
        yield "a device opens a box for a request of another toss"
    late = copy.copy(evil.world.devices[0])
    evil.mask(0, evil.all_but())
    if _opens(evil, evil.world.devices[0], [due]) or _opens(evil, late, [due]):
        yield "a device, or its copy from before, opens a box after it has masked"
    opened = evil.open_boxes(5, [evil.forged_complaint(2, 5, receipt=signed)], machine=copy.copy(evil.world.devices[5]))
    evil.mask(5, evil.all_but())
    if not opened or 5 in evil._inputs:
        yield "a device masks after a copy of it has opened a box"


def _opens(evil: Adversary, machine: MaskedDevice, complaints: list[Complaint]) -> bool:
    """Whether a machine opens any box."""
    try:
        return bool(evil.open_boxes(0, complaints, machine=machine))
    except IntegrityError:
        return True  # an answer of another shape is an answer
