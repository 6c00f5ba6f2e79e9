"""Palate: a federated recommender whose privacy can be checked.

    import palate

    result = palate.simulate("my.csv", epsilon=5)
    result.metrics["recall_capped@20"], result.card["epsilon"]
    result.plots.quality()

What a function needs is imported when it is called: `import palate` itself stays as light as the device core.
"""

from palate.simulation import simulate

__all__ = ["simulate"]
