"""Strikes: records misconduct of devices in an attempt, before the next one is charged.

Conduct -> with masks: named with evidence that was checked, until the operator pardons it; nobody without evidence
        -> without: a strike for a malformed answer, quarantine after a few
"""

from __future__ import annotations

import time

from palate_server.folder.config import CohortSettings
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.events import EventLog
from palate_server.operation.terms import DAY
from palate_server.rounds.coordinator import Coordinator
from palate_server.secagg.conduct import holds


def strike(
    coordinator: Coordinator,
    *,
    register: Enrolments,
    events: EventLog,
    settings: CohortSettings,
) -> None:
    """Record misconduct in the latest attempt. The log gets the number of devices, never which.

    **Guarantees:** nobody is struck without evidence: of this attempt, which holds by itself. Only without masks,
        where devices sign nothing, the server's own word counts.

    Args:
        coordinator: the coordinator of the attempt.
        register: the register of devices.
        events: the log.
        settings: the number of strikes before a quarantine, and its length.
    """
    conduct, directory, context = coordinator.conduct, coordinator.directory, coordinator.context
    if directory is not None and context is not None:
        found = {
            device: record
            for device, record in conduct.evidence.items()
            if record.device == device and holds(record, directory, context=context)
        }
        if found:
            register.name({device: record.to_bytes() for device, record in found.items()})
            events.tell("named", devices=len(found))
        if conduct.unsigned:
            events.tell("unsigned", devices=len(conduct.unsigned))
        return
    if numbers := set(conduct.offenders):
        until = time.time() + settings.quarantine_days * DAY
        held = register.strike(numbers, limit=settings.strikes, until=until)
        events.tell("malformed", devices=len(numbers), quarantined=held)
