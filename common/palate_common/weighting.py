"""Weighting: how strongly an event shows that a user likes an item, by its kind, its value and its age.

The simulator weights the rows of a log with it, a device the events of its user. An event's weight is
(weight of its kind) x (weight of its value) x (decay by age); an event of weight 0 doesn't count.

    >>> shop = weighting_of("shop")
    >>> shop.of_kinds(["purchase", "view", "hide"]).tolist()
    [1.0, 0.2, 0.0]
    >>> shop.combine, shop.cap
    ('sum', 2.0)

The presets are TOML files beside this module, in the format of a simulation's configuration.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate_common.kinds import KINDS, OWN, Says
from palate_core.errors import InputError

Combine = Literal["max", "sum"]
Factors = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer[Any]]

DAY = 86_400.0
ANY = "*"
"""In a table of kinds: every kind that has no entry of its own."""
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Weighting:
    """How events become the weight of a pair of user and item.

    Attributes:
        kinds: weight by kind of event, compared without case; below 0 the kind says something against its item. "*" is
            for kinds not named that say something for it; others weigh 0. None: every kind weighs 1.
        values: steps, value -> weight: an event takes the weight of the largest step not above its value, and 0 below
            the smallest. None: every value weighs 1.
        kind_values: kind -> steps that replace `values` for events of that kind.
        combine: the weight of a pair is the largest weight of its events, or their sum.
        cap: largest weight of a pair.
        half_life_days: an event loses half its weight for each of these many days between it and its user's latest
            event. None: no decay.

    Raises:
        InputError: a setting is out of range.
    """

    kinds: Mapping[str, float] | None = None
    values: Mapping[float, float] | None = None
    kind_values: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    combine: Combine = "max"
    cap: float = math.inf
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        steps = {"value_weights": self.values} | {f"kind_values.{kind}": of for kind, of in self.kind_values.items()}
        for key, weight in (self.kinds or {}).items():
            if not (math.isfinite(weight) and (weight >= 0 or key != ANY)):
                raise InputError(
                    f"`weights` must be finite, and that of {ANY!r} not negative, got {weight} for {key!r}"
                )
        for name, table in steps.items():
            for value, weight in (table or {}).items():
                if not (math.isfinite(weight) and weight >= 0):
                    raise InputError(f"`{name}` must be finite and not negative, got {weight} for {value!r}")
        for name, table in steps.items():
            if table is not None and (not table or not all(map(math.isfinite, table))):
                raise InputError(f"`{name}` must have finite steps, got {sorted(table)}")
        if self.combine not in ("max", "sum"):
            raise InputError(f"`combine` must be max or sum, got {self.combine!r}")
        if not self.cap > 0:
            raise InputError(f"`cap` must be positive, got {self.cap}")
        if self.half_life_days is not None and not (math.isfinite(self.half_life_days) and self.half_life_days > 0):
            raise InputError(f"`half_life_days` must be positive and finite, got {self.half_life_days}")

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The kinds that a device records: those that all have, then those that only this weighting names."""
        return (*KINDS, *sorted(kind for kind in self._table if kind not in KINDS and kind != ANY))

    @cached_property
    def _table(self) -> Mapping[str, float]:
        return {kind.casefold(): weight for kind, weight in (self.kinds or {}).items()}

    @cached_property
    def _judged(self) -> tuple[npt.NDArray[np.int64], Factors]:
        """What each known kind says, and its weight."""
        says = [Says.AGAINST if self._table.get(kind, 0) < 0 else KINDS.get(kind, OWN).says for kind in self.known]
        return np.array(says, np.int64), self.of_kinds(self.known)

    def judge(self, codes: Codes, values: Factors) -> tuple[npt.NDArray[np.int64], Factors]:
        """What a device's events say of their items, as `Says` without BY_VALUE, int64; the weights of those FOR them.

        A weight by kind above 0 with one by value of 0 says something for an item, and doesn't count.

        Args:
            codes: int [n_events], the place of each event's kind in `known`.
            values: float64 [n_events], NaN where there is none.
        """
        says_of, weights = self._judged
        says, by_kind = says_of[codes], weights[codes]
        says = np.where(says == Says.BY_VALUE, np.sign(np.nan_to_num(values)).astype(np.int64), says)
        says[(says == Says.FOR) & (by_kind == 0)] = Says.NOTHING
        return says, np.where(says == Says.FOR, by_kind * self.of_values(values, codes, self.known), 0.0)

    def of_kinds(self, kinds: Sequence[str]) -> Factors:
        """The weight of each kind, float64 [n_kinds]; 0 of one that says something against its item."""
        if self.kinds is None:
            return np.ones(len(kinds))
        usual, folded = self._table.get(ANY, 0.0), [kind.casefold() for kind in kinds]
        others = [usual if KINDS.get(kind, OWN).says > 0 else 0.0 for kind in folded]
        weights = [self._table.get(kind, other) for kind, other in zip(folded, others, strict=True)]
        return np.maximum(np.array(weights, np.float64), 0.0)

    def of_values(self, values: Factors, codes: npt.NDArray[np.integer[Any]], kinds: Sequence[str]) -> Factors:
        """The weight of each event by its value; 1 where it has none. A comment's is its value, 0 where it has none.

        Args:
            values: float64 [n_events], NaN where there is none.
            codes: int [n_events], the place of each event's kind in `kinds`; -1 where it has no kind.
            kinds: the kinds that occur.
        """
        own = {kind.casefold(): steps for kind, steps in self.kind_values.items()}
        factors = _by_steps(values, self.values)
        for code, kind in enumerate(map(str.casefold, kinds)):
            by_value, rows = KINDS.get(kind, OWN).says is Says.BY_VALUE, codes == code
            if kind in own:
                factors[rows] = _by_steps(values[rows], own[kind], unknown=float(not by_value))
            elif by_value:
                factors[rows] = np.clip(np.nan_to_num(values[rows]), 0.0, 1.0)
        return factors

    def decay(self, times: Factors, latest: Factors | float) -> Factors:
        """Factor on each event's weight by its age, float64 [n_events] in (0, 1]; 1 where the time is NaN.

        Args:
            times: seconds since 1970, NaN where unknown.
            latest: when the event's user was last seen, at least `times`.
        """
        if self.half_life_days is None:
            return np.ones(len(times))
        decayed: Factors = np.maximum(0.5 ** ((latest - times) / (self.half_life_days * DAY)), SMALLEST)
        decayed[np.isnan(times)] = 1.0
        return decayed

    def pair_weights(self, factors: Factors, starts: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """One weight a pair, float32 [n_pairs], positive and finite.

        Args:
            factors: weights of events above 0, float64 [n_events], sorted by pair.
            starts: where each pair begins.
        """
        if not len(starts):
            return np.zeros(0, np.float32)
        merged = (np.maximum if self.combine == "max" else np.add).reduceat(factors, starts)
        return np.clip(merged, SMALLEST, min(self.cap, LARGEST)).astype(np.float32)


def weighting_names() -> tuple[str, ...]:
    """Names of the presets."""
    folder = resources.files("palate_common") / "presets"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def weighting_settings(name: str) -> dict[str, Any]:
    """A preset's settings as nested tables, in the format of a simulation's configuration.

    Raises:
        InputError: there is no such preset.
    """
    if name not in weighting_names():
        raise InputError(f"a preset of weights must be one of {', '.join(weighting_names())}, got {name!r}")
    file = resources.files("palate_common") / "presets" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def weighting_of(name: str) -> Weighting:
    """The weighting of a preset.

    Raises:
        InputError: there is no such preset.
    """
    tree = weighting_settings(name)
    data, chosen = tree.get("data", {}), tree.get("positives", {})
    return Weighting(
        kinds=data.get("weights"),
        values=_steps(data.get("value_weights")),
        kind_values={kind: _steps(table) or {} for kind, table in data.get("kind_values", {}).items()},
        combine=chosen.get("combine", "max"),
        cap=chosen.get("cap", math.inf),
        half_life_days=chosen.get("half_life_days"),
    )


def _steps(table: Mapping[str, float] | None) -> dict[float, float] | None:
    """Steps from a TOML table, whose keys are text."""
    return None if table is None else {float(step): weight for step, weight in table.items()}


def _by_steps(values: Factors, steps: Mapping[float, float] | None, *, unknown: float = 1.0) -> Factors:
    """The weight of the largest step not above each value; that of `unknown` where there is no value."""
    if steps is None:
        return np.ones(len(values))
    edges = np.array(sorted(steps), float)
    table = np.array([0.0, *(steps[edge] for edge in sorted(steps))])
    return np.where(np.isnan(values), unknown, table[np.searchsorted(edges, values, side="right")])
