"""Strikes: what devices did in an attempt is held against them, before the next one is charged.

Conduct -> a strike for what no honest device sends, quarantine after a few
        -> in an attempt that was lost, or after more disputes than an honest device can have: named, and left out
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from palate_server.folder.config import CohortSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.operation.terms import DAY
from palate_server.rounds.coordinator import Coordinator
from palate_server.secagg.disputes import Conduct, judged


def strike(
    coordinator: Coordinator,
    cohort: Mapping[int, int],
    *,
    lost: bool,
    register: Enrolments,
    events: EventLog,
    settings: CohortSettings,
) -> None:
    """Hold the latest attempt's conduct against its devices. How many they were is told, and never which.

    Args:
        coordinator: whose attempt it was.
        cohort: who was invited, device -> node.
        lost: whether it was charged, and ended by what devices did or didn't.
        register: where it is kept.
        events: where it is told.
        settings: how many strikes there are before quarantine, and how long that is.
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
        named, disputes = judged(conduct, register.disputes(), most=most, lost=lost)
        register.settle(named, disputes)
        events.tell("disputed", complaints=len(conduct.complaints), named=len(named))
