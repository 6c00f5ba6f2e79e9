"""Adaptation: what a device learns of how its user reacts, and changes by it: weights of parts, sources, exploring."""
