"""Accounting beyond one release: sums in which single events take part by chance."""
