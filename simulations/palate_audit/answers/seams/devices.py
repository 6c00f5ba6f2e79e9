"""Devices: what an app's device does over months: rounds, retries, limits, surveys, reports."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
