"""Stores: what a device keeps and deletes."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.stores import figures, folders, lives, messages, parts

SEAMS: tuple[Seam, ...] = (*lives.SEAMS, *folders.SEAMS, *messages.SEAMS, *figures.SEAMS, *parts.SEAMS)
