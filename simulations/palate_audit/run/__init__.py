"""Audits of a run folder and of a mechanism: ledger, card, completeness, receipts, production path."""
