"""Palate."""
