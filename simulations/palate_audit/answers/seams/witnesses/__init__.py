"""Witnesses: what is cosigned, and who counts."""

from __future__ import annotations

from palate_audit.answers.seams.witnesses import asked, cosigners, quorums, register, saved

SEAMS = (*quorums.SEAMS, *cosigners.SEAMS, *asked.SEAMS, *register.SEAMS, *saved.SEAMS)
"""Of `palate_audit.answers.seams.witnesses`."""
