"""Witnesses: what is cosigned, and who counts."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
