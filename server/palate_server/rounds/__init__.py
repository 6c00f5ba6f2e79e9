"""Rounds: the server's part in one, from terms to the sealed release."""
