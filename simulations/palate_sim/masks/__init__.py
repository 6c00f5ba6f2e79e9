"""Secure aggregation under attack, and its cost."""
