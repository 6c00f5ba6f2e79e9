"""`palate.Recommender`: fit, recommend, evaluate, as in scikit-learn, over the same run as `palate.simulate`.

    >>> import palate
    >>> palate.Recommender(epsilon=2).get_params()["epsilon"]
    2
    >>> palate.Recommender().recommend(["book-7"])
    Traceback (most recent call last):
        ...
    palate_core.errors.InputError: this Recommender isn't fitted yet: call fit(interactions) first

It is for whoever has a log and a notebook. On a device, `palate.open` has the same model, and more: diversity,
exploration, reasons, and a history that never leaves it.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from palate.simulation import simulate
from palate_common.interactions import Interactions
from palate_common.keywords import nearest, says_which
from palate_core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from palate_sim.run.result import PrivacyCard, Result


@dataclass(frozen=True)
class ScoredItem:
    """An item of a list.

    Attributes:
        item: its id.
        score: comparable within its list only.
    """

    item: str
    score: float


class ScoredItems(tuple[ScoredItem, ...]):
    """A list of items, best first; a notebook shows it as a table."""

    @property
    def ids(self) -> list[str]:
        """The items alone."""
        return [each.item for each in self]

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(each.item)}</td><td>{each.score:.4f}</td></tr>" for each in self)
        return f"<table><thead><tr><th>item</th><th>score</th></tr></thead><tbody>{rows}</tbody></table>"


class RecommenderEstimator:
    """A private recommender of a log, exported as `palate.Recommender`.

    Parameters are those of `palate.simulate`. They are checked by `fit`, not before, so that `sklearn.base.clone`,
    `get_params` and `set_params` work as for any estimator.

    Attributes:
        result_: the run, after `fit`: `metrics`, `baselines`, `card`, `report`, `plots`, `model`.
        items_: item ids in the model's row order.
        epsilon_: what the run cost each installation: user-level, zero-out, at `result_.summary["delta"]`.
    """

    @says_which("palate.Recommender")
    def __init__(
        self,
        *,
        epsilon: float | None = None,
        algorithm: str | None = None,
        delta: float | None = None,
        dp: str | None = None,
        preset: str | None = None,
        split: str | None = None,
        seed: int | None = None,
        out: str | Path | None = None,
        ledger: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> None:
        """Keep the parameters; see `palate.simulate`. `progress` None shows it on a terminal and in a notebook."""
        self.epsilon, self.algorithm, self.delta, self.dp, self.preset = epsilon, algorithm, delta, dp, preset
        self.split, self.seed, self.out, self.ledger = split, seed, out, ledger
        self.settings, self.progress = settings, progress

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002, RUF100 # scikit-learn's signature
        """The parameters by name; `deep` is for estimators within estimators, of which there are none."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Raises:
            InputError: there is no such parameter.
        """
        for name, value in params.items():
            if name not in self._names():
                near = nearest(name, self._names())
                hint = f"; did you mean `{near}`?" if near else f": {', '.join(self._names())}"
                raise InputError(f"`{name}` is not a parameter of Recommender{hint}")
            setattr(self, name, value)
        return self

    def fit(self, interactions: Any = None, y: object = None) -> Self:
        """Train on a log, with privacy, and judge the model beside its baselines on users that it didn't see.

        Each call is a run of its own, in a folder of its own, and is charged to the population's ledger.

        Args:
            interactions: a data frame of pandas or polars with a user and an item column; pairs, as a list or an array;
                a path of a CSV or parquet file; a name of `palate data list`. MovieLens small when left out.
            y: not used; scikit-learn passes it.

        Raises:
            InputError: bad data or parameters; nothing was written.
            BudgetError: the population's budget doesn't allow the run.
        """
        self.result_: Result = simulate(interactions, **self.get_params())
        self.items_: tuple[str, ...] = self.result_.items
        self.epsilon_: float | None = self.result_.epsilon
        self._rows = {item: row for row, item in enumerate(self.items_)}
        return self

    @property
    def card_(self) -> PrivacyCard:
        """The privacy card of the run."""
        return self._fitted().card

    def recommend(
        self,
        history: Iterable[object] | Mapping[object, float],
        n: int = 10,
        *,
        exclude: Iterable[object] = (),
        keep_seen: bool = False,
    ) -> ScoredItems:
        """The items with the highest scores for a history, as `evaluate` judges them.

        Args:
            history: the user's items, or item -> weight; an empty one gives what is popular.
            n: how many.
            exclude: items to leave out.
            keep_seen: whether items of the history may be in the list.

        Raises:
            InputError: not fitted, an item that the model doesn't know, or a number out of range.
        """
        model = self._fitted().model
        weights = {str(item): 1.0 for item in _items("history", history)}
        if isinstance(history, Mapping):
            weights = {str(item): _weight(weight) for item, weight in history.items()}
        rows = [self._row("history", item) for item in weights]
        batch = Interactions.from_pairs(
            [0] * len(rows), rows, list(weights.values()), n_users=1, n_items=len(self.items_)
        )
        scores = np.array(model.scores(batch)[0], float)
        scores[[self._row("exclude", str(item)) for item in _items("exclude", exclude)]] = -np.inf
        if not keep_seen:
            scores[rows] = -np.inf
        best = np.argsort(-scores, kind="stable")[: _count(n)]
        return ScoredItems(ScoredItem(self.items_[row], float(scores[row])) for row in best if scores[row] > -np.inf)

    def similar_items(self, item: object, n: int = 10) -> ScoredItems:
        """The items most similar to one by the model, best first; those with nothing in common are left out.

        Raises:
            InputError: not fitted, or an item that the model doesn't know.
        """
        from palate_client.recommend.scoring import scorer_of

        model = self._fitted().model
        rows, likeness = scorer_of(model).similar(self._row("item", str(item)), n=_count(n))
        found = zip(rows.tolist(), likeness.tolist(), strict=True)
        return ScoredItems(ScoredItem(self.items_[row], score) for row, score in found if score > 0)

    def evaluate(self) -> pd.DataFrame:
        """Metrics of the run's own test users with all baselines, one row a model, best first.

        Returns:
            A data frame: model x metric, means over users.

        Raises:
            InputError: not fitted.
        """
        import pandas as pd

        from palate_sim.progress.wording import best_first

        result = self._fitted()
        table, metric = pd.DataFrame({"palate": result.metrics, **result.baselines}).T, result.summary["metric"]
        return table.sort_values(metric, key=lambda column: column.map(lambda value: best_first(value, metric)))

    def score(self) -> float:
        """The headline metric of `evaluate`, so that higher is better: an error of ratings has its sign turned."""
        from palate_sim.progress.wording import best_first

        result = self._fitted()
        metric = result.summary["metric"]
        return -best_first(float(result.metrics[metric]), metric)

    def _fitted(self) -> Result:
        if not hasattr(self, "result_"):
            raise InputError("this Recommender isn't fitted yet: call fit(interactions) first")
        return self.result_

    def _row(self, name: str, item: str) -> int:
        row = self._rows.get(item)
        if row is None:
            raise InputError(f"`{name}` must have items that the model knows, got {item!r:.60}")
        return row

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn, which alone calls it, knows of the estimator: no target is needed."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __sklearn_is_fitted__(self) -> bool:
        """What `sklearn.utils.validation.check_is_fitted` asks."""
        return hasattr(self, "result_")

    def __repr__(self) -> str:
        """The parameters that aren't the default."""
        given = inspect.signature(type(self).__init__).parameters
        changed = [f"{name}={value!r}" for name, value in self.get_params().items() if value != given[name].default]
        return f"Recommender({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """The parameters, and after `fit` the run."""
        head = f"<p><code>{html.escape(repr(self))}</code></p>"
        return head + (self.result_._repr_html_() if hasattr(self, "result_") else "<p>not fitted</p>")


def _items(name: str, given: Iterable[object]) -> list[object]:
    """Items as a list; a text, whose letters would be taken for items, is refused."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InputError(f"`{name}` must be several items, such as a list, got {given!r:.60}")
    return list(given)


def _weight(given: object) -> float:
    """A weight as a number; `Interactions` refuses those that aren't positive and finite."""
    if isinstance(given, (str, bytes)) or not hasattr(given, "__float__"):
        raise InputError(f"`history` must have numbers for weights, got {given!r:.60}")
    return float(given)


def _count(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise InputError(f"`n` must be a whole number from 1, got {n!r}")
    return int(n)
