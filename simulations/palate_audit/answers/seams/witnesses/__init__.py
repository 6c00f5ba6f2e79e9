"""Witnesses: what is cosigned and who counts; and backups, which are restored from what witnesses have seen."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.witnesses import (
    archives,
    asked,
    backups,
    certificates,
    cosigners,
    folders,
    quorums,
    register,
    requests,
)

SEAMS: tuple[Seam, ...] = (
    *quorums.SEAMS,
    *cosigners.SEAMS,
    *folders.SEAMS,
    *requests.SEAMS,
    *asked.SEAMS,
    *register.SEAMS,
    *backups.SEAMS,
    *archives.SEAMS,
    *certificates.SEAMS,
)
