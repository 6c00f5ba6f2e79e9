"""The battery of checks; each names the assumption of the proof that it is about."""
