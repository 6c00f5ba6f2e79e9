"""Seams: the made-up cases of each part of the mechanism, in the order of the data."""
