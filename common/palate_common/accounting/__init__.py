"""Accounting beyond one release: what many cost together, and sums in which single events take part by chance."""
