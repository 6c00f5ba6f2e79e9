"""Contributions: what a device, or a node of many, sends of its users' histories."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.contributions import nodes, shared_rows, surveys, verdicts

SEAMS: tuple[Seam, ...] = (*nodes.SEAMS, *shared_rows.SEAMS, *surveys.SEAMS, *verdicts.SEAMS)
