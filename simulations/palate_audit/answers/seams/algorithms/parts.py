"""Parts: what algorithms are made of: sketches, sizes, links, panels, quarantine, steps of a server, their registry."""

from __future__ import annotations

import enum
from contextlib import ExitStack
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.made.playing import patched, people
from palate_audit.answers.seam import Seam
from palate_common.algorithms import registry
from palate_common.algorithms.als.algorithm import Als
from palate_common.algorithms.als.pairs import item_map
from palate_common.algorithms.base import Algorithm, PublicFacts
from palate_common.algorithms.event_mf import EventMf
from palate_common.algorithms.parts import (
    adaptive_clip,
    compression,
    head,
    links,
    panel,
    quarantine,
    server_steps,
    sketch,
)
from palate_common.algorithms.popularity import Popularity
from palate_common.mechanism.update import OuterBlock
from palate_core.errors import PalateError


def _sketch(dice: Dice, answer: CaseAnswer) -> None:
    """Fewer buckets than rows: there and back."""
    n_rows = dice.one_of((1, 7, 40))
    n_buckets = dice.one_of((1, 1, 2, 3, 5, 16, n_rows - 1 or 1, n_rows, n_rows + 1))
    made = sketch.Sketch(n_rows, n_buckets, dice.one_of((0, 7, 2**64 + 5)))
    histories = people(dice, 4, n_rows)
    block = OuterBlock(
        histories.indptr, histories.indices, dice.floats(histories.nnz), np.ones((4, 1)), n_rows,
        *((np.ones(n_rows, np.int64), np.zeros(4)) if dice.chance(0.1) else ()),
    )  # fmt: skip
    folded = answer.tried(made.fold, block)
    told: list[Any] = [] if isinstance(folded, PalateError) else [folded]
    counts = np.maximum(dice.floats(n_rows, low=-2), 0) * 90
    loud = dice.one_of((0.0, 0.5, 30.0))
    with ExitStack() as stack:
        patched(stack, sketch, STEPS=dice.one_of((3, 25)))
        buckets = counts if made.whole else made.buckets(counts)
        buckets = buckets + loud * dice.floats(len(buckets))
        if not made.whole:
            told += [buckets, made.rows(buckets)]
        spread = dice.floats(n_rows, low=2, high=6)  # of steeper ones, rounding decides
        answer.brief(told, made.recovered(buckets, loud), made.estimated(buckets, max(loud, 3.0), spread))


def _sizes(dice: Dice, answer: CaseAnswer) -> None:
    """Numbers that a device sends, compressed."""
    sizes = compression.Sizes(
        dice.one_of((1, 30, 5000)), dice.one_of((0, 1, 4)), dice.one_of((1, 4, 400)), dice.one_of((1, 4, 32)),
        dice.one_of((0, 0, 5, 300)),
    )  # fmt: skip
    for factor in (1.0, dice.one_of((1.01, 2.0, 8.0)), dice.real(1, 60)):
        answer.of(sizes.compressed, factor, fewest=dice.one_of((1, 2, 4)))
    answer.tell(sizes.numbers)
    n_items, mu = dice.one_of((5, 50, 51, 3000, 3000, 3000)), dice.one_of((None, 1.0, 1.0))
    facts = PublicFacts(n_users=dice.one_of((1, 900, 900)), n_items=n_items, mu=mu)
    answer.tell(head.head_size(facts, dice.one_of((0.9, 2.0)), dice.one_of((None, None, 3, 10**5))))
    answer.brief(head.split_budget(0.3, dice.whole(1, 4)))


def _heads(dice: Dice, answer: CaseAnswer) -> None:
    """The most popular items, scores with a tail, and the step of a clip norm."""
    n_items = dice.one_of((1, 6, 30))
    counts = dice.one_of((dice.floats(n_items, low=-3, high=40), np.zeros(n_items), np.round(dice.floats(n_items) * 3)))
    state = head.choose_head(counts, dice.one_of((0.0, 1.0, 60.0)), dice.one_of((1, 4, 30)))
    scores, known = dice.floats(3, len(state["head"])), np.array([dice.chance(0.7) for _ in range(3)])
    scores[0] = dice.one_of((0.0, 1.0))
    told: list[Any] = [{**state}, head.with_tail(state, scores, known)]
    clip = adaptive_clip.AdaptiveClip(dice.one_of((None, 0.2, 0.5)), dice.one_of((1e-4, 0.5, 9999.0)))
    state = clip.start()
    for _ in range(3):
        norms = np.array([0.0, clip.norm(state), dice.real(0, 1), 3.0])
        known = np.array([dice.chance(0.7) for _ in norms])
        told += [clip.norm(state), clip.verdicts(state, lambda given=norms: given, known)]  # type: ignore[misc]
        users = dice.one_of((1, 90))
        sums = dice.one_of(({}, {"within": np.array([dice.real(-1.5, 1.5) * users])}))
        state = clip.released(state, sums, users)
    answer.brief(told)


def _steps(dice: Dice, answer: CaseAnswer) -> None:
    """Steps of a server, and the map of items from pairs."""
    rows, width = dice.whole(0, 4), dice.whole(1, 3)
    change, half = dice.floats(rows, width), dice.floats(width, width)
    moments = dice.one_of((half @ half.T, half + half.T, np.zeros((width, width))))
    ridge, noise = dice.one_of((np.zeros(width), np.ones(width), dice.floats(width, low=0))), dice.one_of((0.0, 0.4))
    counts = dice.floats(rows, low=0, high=9) * dice.one_of((0, 1))
    named: dict[str, Any] = {
        "moments": moments,
        "counts": counts,
        "ridge": ridge,
        "noise": noise,
        "prior": dice.real(0.1, 2),
    }
    told: list[Any] = [server_steps.newton_direction(change, **named)]
    momentum, squares = np.zeros((rows, width)), np.zeros((rows, width))
    rate, decay, quiet = dice.real(), dice.one_of((0.0, 0.6)), dice.one_of((0.0, 0.3, 5.0))
    for step in (1, 2, 3):
        direction = dice.floats(rows, width)
        found = server_steps.adam_step(momentum, squares, direction, noise=quiet, step=step, rate=rate, decay=decay)
        told += [found, server_steps.momentum_step(found[0], direction, rate=rate, decay=decay)]
        _, momentum, squares = found
    size = dice.whole(2, 6)
    given = dice.floats(size * (size - 1) // 2, low=-1, high=dice.one_of((3, 90)))
    answer.brief(
        told,
        item_map(
            given, dice.one_of((-1.0, 40.0, 300.0)), noise=noise, popularity=dice.floats(size, low=0.1, high=5),
            events=dice.one_of((1.0, 60.0, 9e4)), exponent=dice.one_of((0.0, 0.1, 1.0)),
        )
    )  # fmt: skip


def _links(dice: Dice, answer: CaseAnswer) -> None:
    """Links of an item map, what they add, and links that somebody else made."""
    n_items = dice.one_of((*range(1, 10), 9, 140))
    items = np.array(dice.some_of(range(n_items), 0.8) or [n_items - 1], np.int32)
    size = dice.floats(len(items), len(items)) * dice.one_of((1.0, 1.0, 1e-20, 0.0))
    most, cut = dice.one_of((0, 1, 2, 128)), dice.whole(0, len(items) - 1)
    made = links.Links.strongest(items, size, most=most)
    blocks = [links.Links.strongest(items, size[cut:], most=most, first=cut)]
    blocks = [links.Links.strongest(items, size[:cut], most=most), *blocks] if cut else blocks
    told: list[Any] = [made, links.Links.joined(blocks), made.values]
    histories = people(dice, 4, n_items)
    known, places = made.of(histories.indices)
    told += [known, places, made.scores(histories, dice.floats(histories.nnz))]
    width = made.to.shape[1]
    told.append(made.adds(places, dice.floats(len(places))))
    answer.brief(told, made.said(places[: 1 if width else 0], np.zeros(1 if width and len(places) else 0, np.int64)))
    inputs = panel.panel_inputs(made, users=dice.one_of((0, 1, 70)))
    answer.tell(links.panel_size(inputs), links.panel_size(None), links.panel_size({}))
    answer.tell(panel.has_panel(inputs), sorted(panel.without_panel({**inputs, "features": size})))
    answer.tell(
        panel.takes_panel([*inputs, "features"]),
        panel.takes_panel([*inputs][1:]),
        panel.takes_panel(inputs),
        panel.has_panel({}),
    )
    answer.of(panel.check_panel, inputs, n_items=n_items)
    for _ in range(5):
        answer.of(panel.check_panel, _worse(dice, inputs), n_items=dice.one_of((n_items, n_items, n_items - 1)))
    answer.of(links.Links.of_state(_worse(dice, inputs, whole=True), "panel").check, "panel", n_items)


def _worse(dice: Dice, inputs: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Links with one thing wrong, or with nothing."""
    found = {name: np.array(array) for name, array in inputs.items()}
    name = dice.one_of(sorted(set(found) - {"panel_users"} if whole else found))
    array, what = found[name], dice.whole(0, 11)
    match what:
        case 0:
            found[name] = array.astype(dice.one_of((np.int64, np.float64, np.int8)))
        case 1:
            found[name] = array[:-1] if array.ndim else array
        case 2:
            found[name] = array[None]
        case 3 | 10 | 11 if array.size:
            array.flat[dice.whole(0, array.size - 1)] = dice.one_of((-1, -1, 0, 1, 2, 9))
        case 4 if array.size and array.dtype.kind == "f":
            array.flat[-1] = dice.one_of((np.nan, np.inf, 1.0000001, 1.00001, -1.0, -1.00001))
        case 5 if not whole:
            del found[name]
        case 6:
            found["panel_more"] = array
        case 7:
            found[name] = array[..., ::-1]
        case 8 if array.size:
            array.flat[0] = array.flat[-1]
    return found


def _quarantine(dice: Dice, answer: CaseAnswer) -> None:
    """Items that nothing is learned of: in inputs, histories, sums and states."""
    n_items = dice.whole(2, 8)
    rows = sorted(dice.some_of(range(n_items), 0.4))
    places = dice.one_of((None, [dice.whole(-1, 3) for _ in rows]))
    width = n_items if places is None else 4
    last = dice.one_of(({}, {"counts": dice.floats(width), "table": dice.floats(width, 2)}))
    inputs = quarantine.inputs_of(rows, n_items, last, places)
    told: list[Any] = [inputs, quarantine.told(inputs)]
    histories = people(dice, 4, n_items)
    kinds: tuple[dict[str, Any], ...] = (inputs, inputs, {}, {"quarantined": np.zeros(n_items, np.uint8)})
    wrong = (np.zeros(n_items + 1, np.uint8), np.full(n_items, 2, np.uint8), np.zeros(n_items, np.int64))
    for state in (*kinds, {"quarantined": dice.one_of(wrong)}):
        answer.of(quarantine.rows_of, state, n_items)
        left = answer.tried(quarantine.learned_from, histories, state)
        told.append([] if isinstance(left, PalateError) else left)
    both = np.stack(np.triu_indices(n_items, 1), axis=1)
    items = {"one": (np.arange(n_items),), "two": (both,), "vote": (), "each": (np.arange(n_items), np.arange(2))}
    sums = {"one": dice.floats(n_items), "two": dice.floats(len(both)), "vote": dice.floats(2)}
    sums["each"] = dice.floats(n_items, 2)
    if dice.chance(0.3):
        items = dice.one_of(({}, {**items, "one": (np.arange(n_items - 1),)}, {"one": items["one"], "two": (both,)}))
    heard = answer.tried(quarantine.unheard, sums, inputs, items)
    told.append([] if isinstance(heard, PalateError) else heard)
    state = {"counts": dice.floats(n_items), "table": dice.floats(n_items, dice.one_of((2, 3)))}
    names = dice.one_of((("counts",), ("counts", "table", "other"), ()))
    answer.brief(told, quarantine.as_frozen(state, inputs, names), state, sums, last)


class _Kind(enum.Enum):
    """Kinds of classes that are registered."""

    ALGORITHM = "palate_common.algorithms.popularity:Popularity"
    OTHER = "palate_common.algorithms.als.algorithm:Als"
    NO_CLASS = "json:loads"
    NO_ALGORITHM = "json:JSONDecoder"
    NO_MODULE = "palate_nowhere.at_all:Thing"
    NO_MEMBER = "json:nothing"
    ABSTRACT = "palate_common.algorithms.base:Algorithm"
    EVENT = "palate_common.algorithms.base:EventAlgorithm"


class _Nameless(Popularity):
    """Says that its unit is an event, and isn't made for events."""

    name = "nameless"
    unit = "event"


class _Bare(Algorithm):
    """Has a name and settings, and nothing else."""

    name = "bare"
    Settings = Popularity.Settings


class _Plain(Popularity):
    """Like another, under a name of its own."""

    name = "plain"

    def contribute(self, state: Any, round_: int, histories: Any) -> Any:
        """Half of it."""
        return super().contribute(state, round_, histories)


def _registry(dice: Dice, answer: CaseAnswer) -> None:
    """Algorithms by name: registered, lent, admitted, adapted, or wrong."""
    kinds = [dice.one_of(list(_Kind)).value for _ in range(3)]
    groups = [dice.one_of((registry.GROUP, registry.GROUP, registry.COUNTING)) for _ in kinds]
    names = [dice.one_of(("a", "a", "b", "c", "plain")) for _ in kinds]
    points = tuple(EntryPoint(*each) for each in zip(names, kinds, groups, strict=True))
    facts, asked = PublicFacts(n_users=1, n_items=2), ("a", "b", "c", "d", "plain", "a.b:c d", "os:path", *kinds[:2])
    with ExitStack() as stack:
        patched(stack, registry, _entry_points=lambda: points, _lent={}, _admitted=set(), _adapters={})
        if dice.chance(0.6):
            registry.add_adapter(Als, lambda cls, name: EventMf if name != "c" else cls)
        for name in dice.some_of(("os:path", "a.b:c d", kinds[2], _Kind.NO_MODULE.value, _Kind.OTHER.value)):
            registry.admit(name)
        given = dice.one_of((_Plain, _Plain, _Nameless, _Bare, Algorithm, Als, dict))
        lent = answer.tried(lambda: stack.enter_context(registry.lent(given))) if hasattr(given, "name") else None  # type: ignore[arg-type]
        answer.tell(isinstance(lent, PalateError), registry.algorithm_names())
        again = answer.tried(lambda: stack.enter_context(registry.lent(_Plain)))
        answer.tell(isinstance(again, PalateError), sorted(registry._lent))
        for name in asked:
            found = answer.tried(registry.algorithm_class, name)
            answer.tell(name, getattr(found, "__qualname__", "none"), registry.only_counts(name))
            answer.tell(registry.is_lent(name), registry.is_admitted(name))
        for wrong in ({}, {"rounds": 0}, {"rounds": "x"}, {"other": 1}, {"feature_sources": {"a": "x"}}):
            made = answer.tried(registry.make_algorithm, dice.one_of(("a", "plain")), wrong, facts)
            answer.tell(type(made).__qualname__)
        mine = _Plain(_Plain.Settings(), facts)
        answer.tell(mine.reach("counts"), mine.leaves_items_out(), mine.hands_over())
    answer.tell(registry.is_lent("plain"), registry.only_counts("verdict"), registry.only_counts("als"))


SEAMS: tuple[Seam, ...] = (
    Seam("sketches: there and back", _sketch, 36),
    Seam("sizes: fewer numbers", _sizes, 48),
    Seam("heads, tails and clip norms", _heads, 36),
    Seam("server steps and maps of pairs", _steps, 36),
    Seam("links and panels", _links, 60),
    Seam("quarantine: what is left out", _quarantine, 48),
    Seam("registry: who is found by a name", _registry, 48),
)
