"""Baselines: models without privacy that a run is compared with, fitted on the same split.

Each is a small frozen class with `fit(train, ...)` and `scores(foldin)`.

    >>> from types import SimpleNamespace
    >>> from palate_sim.evaluation.fitting import fit_baselines
    >>> from palate_common.interactions import Interactions
    >>> train = Interactions.from_pairs([0, 0, 1], [0, 1, 1], n_users=2, n_items=3)
    >>> split = SimpleNamespace(train=train, validation=None, items=("a", "b", "c"))
    >>> fit_baselines(["popularity"], split, seed=0)["popularity"].scores(train.user(0)).tolist()
    [[1.0, 2.0, 0.0]]

| name | uses | settings that can be tuned on validation users |
|---|---|---|
| `popularity` | true counts | none |
| `markov`, `sequence_knn` | the order of events; in the benchmark of order alone | steps; neighbours |
| `item_knn` | which items have common users | neighbours |
| `ease` | the same, jointly; catalogues of up to 20,000 items | regularization |
| `ease_sparse` | the same on the 200 items nearest to each; catalogues of any size | regularization |
| `ials` | a factorisation, weights included | confidence, regularization |
| `device_only` | the user's own history and the public catalogue | none |
| `global_mean` | the mean of all ratings; where ratings are learned, as the next two | none |
| `user_mean` | and what the user's own ratings are off it, shrunken | none |
| `user_item_biases` | and what an item's are | none |
"""
