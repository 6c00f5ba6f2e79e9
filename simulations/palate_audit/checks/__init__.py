"""Checks of the path; each names the assumption of the privacy proof that it tests."""
