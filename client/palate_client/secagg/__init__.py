"""Secure aggregation: a device's side of a masked attempt, and its checks before each step."""
