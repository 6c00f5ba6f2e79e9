"""Blame: who has signed what is false, for anybody to check. No secrecy hangs on it."""
