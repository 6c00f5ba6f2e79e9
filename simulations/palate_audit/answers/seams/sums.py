"""Sums: contributions that are clipped, put on the grid and added up."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
