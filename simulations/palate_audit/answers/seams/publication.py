"""Publication: which models are published, judged, held, and which items are left out."""

from __future__ import annotations

from palate_audit.answers.seam import Seam

SEAMS: tuple[Seam, ...] = ()
