"""Ledgers: what a server charges, and what it refuses to."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.ledgers import attempts, books, copies, entries

SEAMS: tuple[Seam, ...] = (*entries.SEAMS, *books.SEAMS, *attempts.SEAMS, *copies.SEAMS)
