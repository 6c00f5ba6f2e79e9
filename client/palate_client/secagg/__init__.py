"""Secure aggregation: one device's side of a masked attempt, and what it insists on before each step."""
