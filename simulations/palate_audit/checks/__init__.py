"""The battery of checks; each names the assumption of the privacy proof that it tests."""
