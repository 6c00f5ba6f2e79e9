"""Consent: what a user agreed to, and what a device insists on, at every step and for every field."""
