"""Strikes: records misconduct of devices in an attempt, before the next one is charged.

Conduct -> a strike for a malformed answer, quarantine after a few
        -> after a lost attempt, or with more disputes than an honest device can have: excluded ("named")
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from palate_server.folder.config import CohortSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.operation.terms import DAY
from palate_server.rounds.coordinator import Coordinator
from palate_server.secagg.disputes import Conduct, judge_disputes


def strike(
    coordinator: Coordinator,
    cohort: Mapping[int, int],
    *,
    lost: bool,
    register: Enrolments,
    events: EventLog,
    settings: CohortSettings,
) -> None:
    """Record misconduct in the latest attempt. The log gets the number of devices, never which.

    Args:
        coordinator: the coordinator of the attempt.
        cohort: the invited devices, device -> node.
        lost: whether it was charged, and failed because of devices.
        register: the register of devices.
        events: the log.
        settings: the number of strikes before a quarantine, and its length.
    """
    terms, conduct = coordinator.terms.cohort, coordinator.conduct
    if terms is None or not terms.masks:
        devices = {node: device for device, node in cohort.items()}
        conduct = Conduct(offenders={devices[node] for node in conduct.offenders})
    if numbers := conduct.offenders | conduct.unrevealed:
        until = time.time() + settings.quarantine_days * DAY
        held = register.strike(numbers, limit=settings.strikes, until=until)
        events.tell("malformed", devices=len(numbers), quarantined=held)
    if conduct.complaints or (lost and conduct.offenders):
        most = terms.c_max if terms is not None else 1
        named, disputes = judge_disputes(conduct, register.disputes(), most=most, lost=lost)
        register.settle(named, disputes)
        events.tell("disputed", complaints=len(conduct.complaints), named=len(named))
