"""Rounds: what server and devices tell each other of one, and what each device adds to it."""
