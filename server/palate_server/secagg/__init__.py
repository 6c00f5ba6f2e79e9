"""Secure aggregation: the server's side of a masked attempt, where only a sum of enough devices becomes visible."""
