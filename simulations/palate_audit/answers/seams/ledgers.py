"""Ledgers: what a server charges, and what it refuses to."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
