"""Worlds that differ in what users did, and in nothing else: all that leaves beside noised numbers is the same."""
