"""Costs: what releases cost, by accountants that share nothing with production, and by those of other people."""
