"""Devices: what an app's device does over months: rounds, retries, limits, surveys, reports."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.devices import apps, ledgers, lives

SEAMS: tuple[Seam, ...] = (*ledgers.SEAMS, *apps.SEAMS, *lives.SEAMS)
