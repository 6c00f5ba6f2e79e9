"""Masks: attempts under secure aggregation, step by step, with whatever a server or a device may send."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.masks import arithmetic, devices, faults, servers, signed

SEAMS: tuple[Seam, ...] = (*arithmetic.SEAMS, *signed.SEAMS, *faults.SEAMS, *servers.SEAMS, *devices.SEAMS)
