"""Panels: people whose log is open."""
