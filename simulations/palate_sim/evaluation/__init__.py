"""Evaluation: a model and its baselines on held-out users. Oracle metrics: simulation only."""
