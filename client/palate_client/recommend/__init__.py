"""Recommending: from a user's own events and the public model to a list with reasons. Nothing of it leaves."""
