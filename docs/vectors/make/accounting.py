"""accounting.json: what an attempt costs, the share of the noise that a device adds."""

from __future__ import annotations

from typing import Any

from palate_core.accounting import charged_mu2, epsilon_of
from palate_core.cohort_terms import share_sigma


def accounting() -> dict[str, Any]:
    """What an attempt costs, the share of the noise that a device adds, and what a spent mu is in epsilon."""
    charged = [(2**20, 64), (2**20, 2**20), (2**14, 100_003), (2**16, 3 * 2**17), (2**20, 2**30)]
    shared = [(64, 1), (2**20, 80), (2**20 + 7, 3), (2**25, 801), (100, 5000)]
    spent = [(mu, delta) for mu in (0.01, 0.1, 0.5, 1.0, 2.5, 6.0) for delta in (1e-10, 1e-6, 1e-5)]
    return {
        "charges": [
            {"grid": grid, "sigma": sigma, "mu2": charged_mu2(sensitivity=grid, sigma=sigma)} for grid, sigma in charged
        ],
        "shares": [
            {"sigma": sigma, "shares": shares, "share": share_sigma(sigma=sigma, shares=shares)}
            for sigma, shares in shared
        ],
        "epsilons": [
            {"mu": mu, "delta": delta, "epsilon": float(f"{epsilon_of(mu=mu, delta=delta):.10g}")}
            for mu, delta in spent
        ],
    }
