"""Rounds: the signed plan of a round, its messages, and the noise that devices add."""
