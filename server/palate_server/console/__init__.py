"""The operator's page: what a server is about, what is left of its budgets, and what went wrong, in a browser."""
