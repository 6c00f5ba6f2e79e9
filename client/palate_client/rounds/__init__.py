"""Rounds: a device's part in one, from the signed plan to what may leave, and the report on what that cost."""
