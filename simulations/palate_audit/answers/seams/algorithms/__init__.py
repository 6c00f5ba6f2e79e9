"""Algorithms: what each of them makes of a release: models, plans of the next round, layouts."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.algorithms import als_runs, modules, other_runs, parts

SEAMS: tuple[Seam, ...] = (*als_runs.SEAMS, *other_runs.SEAMS, *parts.SEAMS, *modules.SEAMS)
