"""Ledgers of many simulated devices in one file: sets of their ids, and their sums."""
