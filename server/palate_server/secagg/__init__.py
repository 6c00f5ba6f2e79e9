"""Secure aggregation: the server's side of a masked attempt; it sees only a sum of enough devices."""
