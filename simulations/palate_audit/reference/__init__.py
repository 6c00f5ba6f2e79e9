"""Reference: the mechanism once more, in plain Python numbers, slow and easy to read; production must agree with it."""
