"""Contributions as whole numbers: blocks, clipping, sums. On a device an error here costs quality, not privacy."""
