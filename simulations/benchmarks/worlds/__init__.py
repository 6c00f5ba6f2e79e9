"""Worlds: made populations with a known truth, for benchmarks and tests."""
