"""Records: what is signed, proven and read."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.records import kept, keys, messages, plans, texts, trees, values

SEAMS: tuple[Seam, ...] = (
    *values.SEAMS,
    *trees.SEAMS,
    *texts.SEAMS,
    *keys.SEAMS,
    *kept.SEAMS,
    *plans.SEAMS,
    *messages.SEAMS,
)
