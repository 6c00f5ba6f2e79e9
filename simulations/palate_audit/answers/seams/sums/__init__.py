"""Sums: interactions and their weights, contributions that are clipped, put on the grid, sent and added up."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.sums import clipping, interactions, weights, wire

SEAMS: tuple[Seam, ...] = (*interactions.SEAMS, *clipping.SEAMS, *wire.SEAMS, *weights.SEAMS)
