"""Saved lists: an evaluation's values user by user, and its lists on disk, for evaluation by any other tool.

`save_split` and `Evaluation.save_recommendations` write plain CSV, atomically and with the same bytes for the same
content.

    >>> import numpy as np
    >>> lists = np.array([[2, 0], [1, -1]], np.int32)
    >>> run = Evaluation(users=("ann", "bob"), rows=np.arange(2), values={"hr@2": np.array([1.0, 0.0])}, totals={},
    ...     activity=np.array([1, 5]), groups={"city": ("rome", "oslo")}, top=lists, top_scores=lists / 2, left_out=0)
    >>> run.mean("hr@2"), run.by_group("hr@2")["city"][0]
    (0.5, Segment(label='oslo', users=1, mean=0.0, low=None, high=None))
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from palate_common.interactions import Floats, Interactions, Ints
from palate_core.errors import InputError
from palate_sim.metrics import RATING_METRICS

if TYPE_CHECKING:
    from palate_sim.preparation.splits import Split

BOOTSTRAP_BLOCK = 1 << 21  # draws held in memory at once, 16 MiB
LEVEL = 0.95
"""Probability of an interval."""
WRITTEN_AT_ONCE = 4096  # users whose rows are made into text at once


@dataclass(frozen=True)
class Segment:
    """One metric over some of the users; `low` and `high` bound its mean at 95 % when intervals were requested."""

    label: str
    users: int
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The judged lists of n users.

    Attributes:
        users: ids of the users who have a held-out item.
        rows: int64 [n], their rows in the held-out set.
        values: user metrics by name, float64 [n] each.
        totals: list metrics by name.
        errors: rating metrics by name, float64 [n, 2] each: what a user's ratings add, and how many they are.
        activity: int64 [n], length of each user's fold-in.
        groups: a label per user, by grouping; empty when the data has none.
        top: int32 [n, k], items in rank order, -1 where a list ends early.
        top_scores: [n, k], the scores the scorer gave them.
        left_out: users without a held-out item.
        mean_rank: mean place of the held-out items in the whole catalogue, 0 the top and 1 the end; None where it
            wasn't asked for.
    """

    users: tuple[str, ...]
    rows: Ints
    values: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    totals: Mapping[str, float]
    activity: Ints = field(repr=False)
    groups: Mapping[str, tuple[str, ...]] = field(repr=False)
    top: npt.NDArray[np.int32] = field(repr=False)
    top_scores: Floats = field(repr=False)
    left_out: int
    mean_rank: float | None = None
    errors: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def mean(self, name: str) -> float:
        """A metric over all users.

        Raises:
            InputError: there is no such metric.
        """
        return self.totals[name] if name in self.totals else self._mean(name, slice(None))

    def table(self) -> dict[str, float]:
        """Every metric over all users, by name."""
        return {name: self.mean(name) for name in (*self.errors, *self.values, *self.totals)}

    def over(self, name: str, of: npt.NDArray[np.bool_]) -> float | None:
        """A user or rating metric over some users, bool [n]; None without any, or without the metric."""
        known = name in self.values or name in self.errors
        return self._mean(name, of) if known and of.any() else None

    def interval(self, name: str, rng: np.random.Generator, *, resamples: int = 1000) -> tuple[float, float]:
        """The 95 % percentile bootstrap interval of a user or rating metric, over users.

        Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

        Raises:
            InputError: there is no such metric; the list metrics have no mean over users.
        """
        return _bounds(self._of(name, _resampled(self._columns(name), rng, resamples)))

    def intervals(self, rng: np.random.Generator, *, resamples: int = 1000) -> dict[str, tuple[float, float]]:
        """The interval of every user and rating metric, each from the same resamples as `interval` draws for it."""
        names = (*self.errors, *self.values)
        columns = [self._columns(name) for name in names]
        means = _resampled(np.concatenate(columns, axis=1), rng, resamples)
        parts = np.split(means, np.cumsum([each.shape[1] for each in columns])[:-1], axis=1)
        return {name: _bounds(self._of(name, part)) for name, part in zip(names, parts, strict=True)}

    def by_group(self, name: str, rng: np.random.Generator | None = None) -> dict[str, tuple[Segment, ...]]:
        """A user or rating metric by each label of each grouping; with `rng`, with intervals; {} without groups."""
        found = {}
        for group, labels in self.groups.items():
            kinds, of = np.unique(np.array(labels, np.str_), return_inverse=True)
            found[group] = self._segments(name, kinds.tolist(), [of == one for one in range(len(kinds))], rng)
        return found

    def save_recommendations(self, path: str | Path, items: Sequence[str], users: Sequence[str] | None = None) -> None:
        """Write every list to a gzipped CSV: user_id, item_id, rank from 1, score.

        Scores are the scorer's in float32, except that each is lowered until it is below the one before it: sorting by
        score gives the ranks back in any tool.

        Args:
            path: the file; it is replaced in one step.
            items: item ids in catalogue order.
            users: ids of all users of the held-out set, in its order; the evaluated users' own ids when left out.

        Raises:
            InputError: an id is missing.
        """
        short = users is not None and self.rows.max(initial=-1) >= len(users)
        if short or self.top.max(initial=-1) >= len(items):
            raise InputError("`items` and `users` must name every item and user that was ranked")
        _write_csv(Path(path), ("user_id", "item_id", "rank", "score"), self._listed(items, users))

    def _listed(self, items: Sequence[str], users: Sequence[str] | None) -> Iterator[Any]:
        """The rows of the saved lists, some users at a time."""
        for first in range(0, len(self.top), WRITTEN_AT_ONCE):
            part = slice(first, first + WRITTEN_AT_ONCE)
            top, scores = self.top[part], strictly_decreasing(self.top_scores[part])
            names = self.users[part] if users is None else [users[row] for row in self.rows[part].tolist()]
            owner, place = np.nonzero(top >= 0)
            yield from zip(
                (names[row] for row in owner),
                (items[item] for item in top[owner, place]),
                (place + 1).tolist(),
                scores[owner, place].astype(str),
                strict=True,
            )

    def _mean(self, name: str, of: slice | npt.NDArray[np.bool_]) -> float:
        """A user or rating metric over some users."""
        return float(self._of(name, self._columns(name)[of].mean(axis=0)))

    def _columns(self, name: str) -> npt.NDArray[np.float64]:
        """A user metric's values [n, 1], or a rating metric's sums and numbers of ratings [n, 2]."""
        if name in self.errors:
            return self.errors[name]
        if name not in self.values:
            raise InputError(f"`name` must be one of {', '.join((*self.errors, *self.values))}, got {name}")
        return self.values[name][:, None]

    def _of(self, name: str, means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The metric that means of its columns [..., 1 or 2] come to."""
        if name in self.errors:
            return RATING_METRICS[name].whole(means[..., 0] / means[..., 1])
        return means[..., 0]

    def _segments(
        self, name: str, labels: list[str], parts: list[npt.NDArray[np.bool_]], rng: np.random.Generator | None
    ) -> tuple[Segment, ...]:
        """One segment for each part of the users."""
        segments = []
        for label, part in zip(labels, parts, strict=True):
            low, high = (
                (None, None) if rng is None else _bounds(self._of(name, _resampled(self._columns(name)[part], rng)))
            )
            segments.append(Segment(label, int(part.sum()), self._mean(name, part), low, high))
        return tuple(segments)


def _bounds(means: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The bounds between which the resamples' means lie, but for the tails."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled(
    values: npt.NDArray[np.float64], rng: np.random.Generator, resamples: int = 1000
) -> npt.NDArray[np.float64]:
    """Each column's mean in each resample of the users, [resamples, columns]. All columns share one resample."""
    n = len(values)
    rows, means = max(1, BOOTSTRAP_BLOCK // n), []
    for start in range(0, resamples, rows):
        drawn = rng.integers(n, size=(min(rows, resamples - start), n))
        drawn += np.arange(len(drawn))[:, None] * n
        means.append(np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape) @ values / n)
    return np.concatenate(means)


def strictly_decreasing(scores: Floats) -> npt.NDArray[np.float32]:
    """Scores in rank order [n, k], each lowered as little as needed to be below the one before it, float32 [n, k].

    Float32, because trec_eval and its descendants compare in that precision.
    """
    out = np.clip(scores, -1e37, 1e37).astype(np.float32)
    for place in range(1, out.shape[1]):
        before = out[:, place - 1]
        step = np.maximum(np.spacing(np.abs(before)), np.float32(1e-30))  # no subnormal steps: some tools flush them
        out[:, place] = np.minimum(out[:, place], before - step)
    return out


def save_split(folder: str | Path, split: Split) -> None:
    """Write a split's `train.csv.gz`, and its test users' `foldin.csv.gz` and `test.csv.gz`, into `folder`.

    Columns user_id, item_id, and weight where any weight in the file isn't 1.

    Args:
        folder: made when missing; each file is replaced in one step.
        split: what the run trained and was judged on.
    """
    test = split.test
    parts = (
        ("train", split.train, split.train_users),
        ("foldin", test.foldin, test.users),
        ("test", test.target, test.users),
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, part, users in parts:
        weighted = any(bool((few.weights != 1).any()) for _, few in _parts(part))
        columns = ("user_id", "item_id", "weight") if weighted else ("user_id", "item_id")
        _write_csv(Path(folder) / f"{name}.csv.gz", columns, _pairs(part, users, split.items, weighted=weighted))


def _pairs(part: Interactions, users: Sequence[str], items: Sequence[str], *, weighted: bool) -> Iterator[Any]:
    """The rows of a split's file."""
    for first, few in _parts(part):
        owners = (users[row] for row in (few.owners() + first).tolist())
        names = (items[item] for item in few.indices.tolist())
        if weighted:
            yield from zip(owners, names, few.weights.astype(str), strict=True)
        else:
            yield from zip(owners, names, strict=True)


def _parts(batch: Interactions) -> Iterator[tuple[int, Interactions]]:
    """The batch some users at a time, each part with the row of its first user."""
    for first in range(0, batch.n_users, WRITTEN_AT_ONCE):
        yield first, batch.users(slice(first, first + WRITTEN_AT_ONCE))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Any]) -> None:
    """Write a gzipped CSV beside its place and move it there."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            partial.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
        ):
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
