"""The server: what the operator of a population runs."""
