"""Settings: every registered algorithm with all of its settings, read from the schema, and the states it gets into.

For each field of an algorithm's settings, and of the public facts, the schema says which values there are: choices,
both truths, whole numbers and fractions from their least on. Each two values of two fields meet in a case. Public
inputs are made for all names that an algorithm can use.

registry -> schema -> `SettingsCase`s -> `rounds`: the state and layout of each round, with noise as in a run

    >>> found = cases("sgd", ITEMS)
    >>> {case.settings.get("loss") for case in found} >= {"implicit", "logistic", "ratings"}
    True
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import numpy.typing as npt
from pydantic.fields import FieldInfo

from palate_common.algorithms import Algorithm, EventAlgorithm, PublicFacts, State, algorithm_class, algorithm_names
from palate_common.algorithms.als.warm import FORMER
from palate_common.algorithms.parts.links import Links
from palate_common.algorithms.parts.panel import PANEL_INPUTS, panel_inputs
from palate_common.algorithms.registry import COUNTING
from palate_common.interactions import Interactions
from palate_common.mechanism.update import block_sums, block_units
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import PalateError
from palate_core.layout import Layout

ITEMS, FEATURES, PANEL = 26, 3, 40
"""Items of the catalogue, columns of features, and people of a panel."""
SIZES = (5, 0, 1, 2, 3, 26, 8, 13, 4, 1, 0, 7)
"""Items that each user has: none, one, odd and even numbers, all; the second without any is in a later part wherever
work is cut."""
GRID = 2**20
SPREAD, WIDE = 10.0, 4
"""A fraction with both bounds has its ends and its middle, if they aren't further apart; a range of whole numbers goes
so far beyond its least."""
SEED = 5
UNSET = "as it comes"
LEFT_OUT = "torch"
NOISE = 2.0**14
"""Steps of noise in the sums that a state is made of."""
QUESTIONS = Survey(first_day="2026-11-23", channels=("email",), items=("asked",), experiments=("asked",))


@dataclass(frozen=True)
class SettingsCase:
    """An algorithm as a run may have it.

    Attributes:
        name: the algorithm's.
        settings: those that aren't left out.
        facts: what is public.
        inputs: the public inputs that it starts with.
        weighted: whether events have weights.
    """

    name: str
    settings: Mapping[str, Any] = field(hash=False)
    facts: PublicFacts
    inputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)
    weighted: bool = False

    def __str__(self) -> str:
        """For people: what isn't as it comes."""
        given = {**self.settings, **self.facts.model_dump(exclude={"n_items"}, exclude_defaults=True)}
        said = ", ".join(f"{key} {value}" for key, value in given.items())
        return f"{self.name} ({said}{', weighted' if self.weighted else ''})"

    def algorithm(self) -> Algorithm:
        """The algorithm itself."""
        cls = algorithm_class(self.name)
        return cls(cls.Settings.model_validate(dict(self.settings)), self.facts)

    def histories(self) -> Interactions:
        """Users with none, few and all of the items, the popular ones more often."""
        rng, n_items = np.random.default_rng(SEED), self.facts.n_items
        odds = 1 / np.arange(1, n_items + 1)
        rows = [rng.choice(n_items, min(size, n_items), replace=False, p=odds / odds.sum()) for size in SIZES]
        owners, items = np.repeat(np.arange(len(rows)), [len(row) for row in rows]), np.concatenate(rows)
        weights = rng.choice([0.25, 1.0, 2.5, 3.0, 5.0], len(items)) if self.weighted else None
        return Interactions.from_pairs(owners, items, weights, n_users=len(rows), n_items=n_items)


@dataclass(frozen=True)
class RoundStage:
    """One round: what devices start from, and what they send."""

    round: int
    state: State
    layout: Layout


def rounds(
    case: SettingsCase, sums: Callable[[Algorithm, RoundStage], npt.NDArray[np.int64]]
) -> Iterator[tuple[Algorithm, RoundStage]]:
    """Each round of a case: its server goes on from the sums that it is given, with noise.

    Args:
        case: the algorithm and its settings.
        sums: a round's exact sum over all, in grid steps.
    """
    algorithm, rng = case.algorithm(), np.random.default_rng(SEED)
    state = algorithm.start() | dict(case.inputs)
    for number in range(len(algorithm.shares)):
        stage = RoundStage(number, state, algorithm.layout(state, number))
        yield algorithm, stage
        if number == len(algorithm.shares) - 1:
            return
        total, sigma = sums(algorithm, stage), 0.0 if case.facts.mu is None else NOISE
        noised = total + np.rint(rng.normal(0.0, max(sigma, 1e-9), len(total))).astype(np.int64)
        blocks, units = block_sums(noised, stage.layout, 1 / GRID), block_units(stage.layout, sigma / GRID)
        try:
            state = algorithm.release(state, number, blocks, units)
        except (ArithmeticError, ValueError, PalateError):  # a server that can't go on releases nothing more
            return


@lru_cache(maxsize=64)
def cases(name: str, n_items: int = ITEMS) -> tuple[SettingsCase, ...]:
    """Cases in which each two values of two fields meet, of the settings and of the public facts.

    That a field is left out is one of its values. What an algorithm refuses is left out.
    """
    if name == SURVEYING:
        facts = PublicFacts(n_users=len(SIZES), n_items=len(QUESTIONS.questions()), mu=2.0)
        return (SettingsCase(name, QUESTIONS.model_dump(mode="json"), facts),)
    cls, found = algorithm_class(name), dict[SettingsCase, None]()
    asked = {key: (UNSET, *values(info)) for key, info in cls.Settings.model_fields.items()}
    asked |= {key: several for key, several in public(cls).items()} | {"weighted": (False, True)}
    for chosen in _meeting(asked, np.random.default_rng([SEED, *name.encode()])):
        case = _possible(name, chosen, n_items)
        if case is not None:
            found[case] = None
    return tuple(found)


def _meeting(asked: Mapping[str, tuple[Any, ...]], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Choices of a value for each field, until each two values of two fields have met.

    Each choice begins with two that have not, and then takes for one field after the other, in any order, the value
    that meets most others for the first time.
    """
    fields = [key for key, several in asked.items() if several]
    met = {
        (one, other): np.zeros((len(asked[one]), len(asked[other])), np.bool_)
        for one in fields
        for other in fields
        if one != other
    }
    while True:
        left = [pair for pair, seen in met.items() if not seen.all()]
        if not left:
            return
        one, other = left[int(rng.integers(len(left)))]
        first = rng.permutation(np.argwhere(~met[one, other]))[0]
        chosen = {one: int(first[0]), other: int(first[1])}
        for place in rng.permutation(len(fields)).tolist():
            key = fields[place]
            if key not in chosen:
                new = np.sum([~met[key, taken][:, at] for taken, at in chosen.items()], axis=0)
                chosen[key] = int(rng.choice(np.flatnonzero(new == new.max())))
        for key, at in chosen.items():
            for taken, place in chosen.items():
                if key != taken:
                    met[key, taken][at, place] = True
        chosen = {each: chosen[each] for each in (one, other, *fields)}
        yield {key: asked[key][at] for key, at in chosen.items()}


def _possible(name: str, chosen: dict[str, Any], n_items: int) -> SettingsCase | None:
    """A case with as many of the chosen values as go together, the first ones in any event; None if those don't."""
    case = _made(name, chosen, n_items)
    while case is None and len(chosen) > 1:
        chosen = dict(list(chosen.items())[: -(-len(chosen) * 3 // 4) if len(chosen) > 4 else len(chosen) - 1])
        case = _made(name, chosen, n_items)
    return case


def _made(name: str, chosen: Mapping[str, Any], n_items: int) -> SettingsCase | None:
    """The case of some values; None if the algorithm refuses them."""
    cls = algorithm_class(name)
    of_facts = {key: value for key, value in chosen.items() if key in PublicFacts.model_fields}
    settings = {key: value for key, value in chosen.items() if key in cls.Settings.model_fields and value is not UNSET}
    facts = PublicFacts(**{"n_users": len(SIZES), "n_items": n_items, "mu": 50.0} | of_facts)
    case = SettingsCase(name, settings, facts, _inputs(cls, facts), bool(chosen.get("weighted")))
    try:
        case.algorithm()
    except (PalateError, ValueError):
        return None
    return case


def values(info: FieldInfo) -> tuple[Any, ...]:
    """Values of a setting, by its type and bounds."""
    kinds = _kinds(info.annotation)
    if any(get_origin(kind) is Literal for kind in kinds):
        return tuple(each for kind in kinds for each in get_args(kind))
    least = next((getattr(each, "ge", getattr(each, "gt", None)) for each in info.metadata if _has(each, "g")), None)
    most = next((getattr(each, "le", getattr(each, "lt", None)) for each in info.metadata if _has(each, "l")), None)
    if bool in kinds:
        return (False, True)
    if int in kinds and least is not None:
        found = {least, least + 1, least + WIDE}
        return tuple(sorted(each for each in found if most is None or each <= most))
    if float in kinds and least is not None:
        far = most if most is not None and most - least <= SPREAD else least + WIDE
        low = least if any(hasattr(each, "ge") for each in info.metadata) else least + (far - least) / 64
        high = far if far != most or any(hasattr(each, "le") for each in info.metadata) else far - (far - least) / 64
        return tuple(sorted({low, (low + high) / 2, high}))
    if any(get_origin(kind) is dict for kind in kinds):
        return ({"one": 1, "two": FEATURES - 1},)
    return ()


def public(cls: type[Algorithm]) -> dict[str, tuple[Any, ...]]:
    """Values of the public facts, as far as an algorithm can use them."""
    found: dict[str, tuple[Any, ...]] = {"n_users": (len(SIZES), 4000), "seed": (0, 3)}
    found |= {"mu": (None, 0.5, 50.0, 20_000.0), "local": (False, True)}
    if issubclass(cls, EventAlgorithm):  # one event is protected by noise on the device, or not at all
        found |= {"mu": (0.5, 50.0, 20_000.0), "local": (True,)}
    if "features" in cls.public_inputs:
        found["n_features"] = (0, FEATURES)
    if set(PANEL_INPUTS) <= set(cls.public_inputs):
        found["panel_users"] = (0, PANEL)
    if set(FORMER) <= set(cls.public_inputs):
        found["former_signal"] = (0.0, 500.0)
    return found


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for each in get_args(annotation) for kind in _kinds(each))
    return (annotation,)


def _has(bound: Any, letter: str) -> bool:
    """Whether it is a bound from below, `g`, or from above, `l`."""
    return hasattr(bound, f"{letter}e") or hasattr(bound, f"{letter}t")


def _inputs(cls: type[Algorithm], facts: PublicFacts) -> dict[str, npt.NDArray[Any]]:
    """Public inputs that go with the facts."""
    rng, found = np.random.default_rng(SEED), dict[str, npt.NDArray[Any]]()
    if facts.n_features:
        found["features"] = rng.normal(size=(facts.n_items, facts.n_features)).astype(np.float32)
    if facts.panel_users:
        near = rng.normal(size=(facts.n_items, facts.n_items)) / 4
        links = Links.strongest(np.arange(facts.n_items, dtype=np.int32), near, most=6)
        found |= panel_inputs(links, users=facts.panel_users)
    if facts.former_signal:
        found |= _former(cls.name, facts.n_items)
    return found


@lru_cache(maxsize=8)
def _former(name: str, n_items: int) -> dict[str, npt.NDArray[Any]]:
    """What a former run hands over; its sums are made up."""
    case = SettingsCase(name, {}, PublicFacts(n_users=len(SIZES), n_items=n_items, mu=2000.0))
    rng = np.random.default_rng(SEED)

    def sums(algorithm: Algorithm, stage: RoundStage) -> npt.NDArray[np.int64]:
        size = sum(spec.size for spec in stage.layout)
        return (rng.random(size) * GRID).astype(np.int64)

    algorithm, stage = list(rounds(case, sums))[-1]
    total = sums(algorithm, stage)
    state = algorithm.release(
        stage.state, stage.round, block_sums(total, stage.layout, 1 / GRID), block_units(stage.layout, NOISE / GRID)
    )
    return algorithm.hand_over(state, np.arange(n_items), n_items)


def in_torch() -> tuple[str, ...]:
    """The registered algorithms that are torch modules: a sum of theirs depends a little on who else is computed."""
    return tuple(name for name in algorithm_names() if name.startswith(LEFT_OUT))


def names() -> tuple[str, ...]:
    """Every registered algorithm, and those that only count, of surveys.

    Without torch's: to load it takes longer than to run all others.
    """
    counting = sorted({each.name for each in entry_points(group=COUNTING)})
    return (*(name for name in algorithm_names() if not name.startswith(LEFT_OUT)), *counting)
