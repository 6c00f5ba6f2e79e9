"""Downloads: models, catalogues and their differences, as they are published and read."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.downloads import releases, shapes, taken

SEAMS: tuple[Seam, ...] = (*shapes.SEAMS, *releases.SEAMS, *taken.SEAMS)
