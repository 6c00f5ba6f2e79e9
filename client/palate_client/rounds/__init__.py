"""Rounds: a device's part in a round, from the signed plan to the contribution, and the privacy report."""
