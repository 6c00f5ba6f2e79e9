"""Accounting: what releases cost, what noise a budget buys, and what a run's terms, cohort and budget follow from."""

from __future__ import annotations

from palate_audit.answers.seam import Seam
from palate_audit.answers.seams.accounting import accounts, cohorts, prices, terms

SEAMS: tuple[Seam, ...] = (*prices.SEAMS, *accounts.SEAMS, *cohorts.SEAMS, *terms.SEAMS)
