"""Leaving: what remains of an installation whose user leaves."""
