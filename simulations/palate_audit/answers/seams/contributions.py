"""Contributions: what a device, or a node of many, sends of its users' histories."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
