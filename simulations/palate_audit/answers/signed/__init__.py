"""Signed: made-up cases of what is signed, proven, kept and read."""
