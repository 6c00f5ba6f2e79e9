"""Recommending: from a user's events and the public model to a list with reasons, all on the device."""
