"""Noise: what is drawn for a release, by whom, and how steps over events are noised."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
