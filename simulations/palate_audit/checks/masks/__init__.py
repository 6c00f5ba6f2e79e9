"""Masks: their secrets by count, their keystreams by full length, the graph by its proof, and what binds an attempt."""
