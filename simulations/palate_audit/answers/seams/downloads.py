"""Downloads: models, catalogues and their differences, as they are published and read."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.held import shapes

SEAMS: tuple[Seam, ...] = (*shapes.SEAMS,)
