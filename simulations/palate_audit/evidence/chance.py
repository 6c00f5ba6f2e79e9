"""Chance: the probability that a correct mechanism raises any alarm in a part of an audit.

All of it is shared by the tests that have a p-value, by Holm's rule. Two fresh releases are equal by chance with a
probability below 1e-100; whatever else has no p-value compares bytes, or numbers that follow from seeded noise.
"""

ALPHA = 1e-6
"""Family-wise error of one part of an audit."""
