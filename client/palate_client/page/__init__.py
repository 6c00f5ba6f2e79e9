"""The user's own page: what the store holds about them, in words and pictures, and what they can do about it."""
