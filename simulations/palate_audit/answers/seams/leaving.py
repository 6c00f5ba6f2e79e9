"""Leaving: what a device says when it leaves, and what anybody can tell from it later."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
