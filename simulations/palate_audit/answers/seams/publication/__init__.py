"""Publication: which models are published, judged, held, and which items are left out."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.publication import figures, models, pasts, settings, waiting

SEAMS: tuple[Seam, ...] = (*models.SEAMS, *pasts.SEAMS, *settings.SEAMS, *waiting.SEAMS, *figures.SEAMS)
