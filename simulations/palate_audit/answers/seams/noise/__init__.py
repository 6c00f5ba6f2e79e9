"""Noise: random words, what is drawn for a release and by whom, and the plans that say so."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.noise import noised, plans, words

SEAMS: tuple[Seam, ...] = (*words.SEAMS, *noised.SEAMS, *plans.SEAMS)
