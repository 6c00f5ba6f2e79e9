"""Masks: attempts under secure aggregation, step by step, with whatever a server may send."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
