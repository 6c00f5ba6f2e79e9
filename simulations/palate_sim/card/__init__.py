"""The privacy card: what a run promises, in words and as a record."""
