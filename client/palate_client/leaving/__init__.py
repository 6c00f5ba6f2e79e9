"""Leaving: what remains of an installation whose user leaves, and what a published model still has of it."""
