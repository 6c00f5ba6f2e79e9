"""Secure aggregation under attack, and what it costs."""
