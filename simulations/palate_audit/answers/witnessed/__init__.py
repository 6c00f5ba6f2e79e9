"""Witnessed: made-up cases of what witnesses see, of who is enrolled, and of what is saved."""
