"""Rounds: the server's part in a round, from a run's terms to the sealed release."""
