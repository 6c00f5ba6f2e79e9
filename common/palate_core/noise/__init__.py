"""Noise: random words, the exact discrete Gaussian, and the final norm check."""
