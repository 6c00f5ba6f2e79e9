"""Algorithms: what each of them makes of a release: models, plans of the next round, layouts."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
