"""Preparation: from a log to a split into training and held-out users."""
