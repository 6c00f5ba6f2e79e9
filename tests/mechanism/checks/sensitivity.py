"""D: how far one user moves a release, exactly, with the same noise in both runs.

Two runs of the production path differ in one user's events, which are there in one and emptied in the other. Seeded
noise is the same in both, so their releases differ by that user's integers alone: no statistics, and a bound of `grid`
steps that may not be exceeded by a single step. The user tries all kinds of numbers.

**Assumes:** a seeded source goes through the code that a secure one goes through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from palate_audit.checks.events import one_event
from palate_audit.harness.probe_algorithm import ALONG, COLUMNS, PLAIN, ROWS, SQUARE, WEIGHTS, Floats, Gesture
from palate_audit.harness.probe_run import Setting, crowd, probe_run

from palate_audit.evidence.evidence import Finding
from palate_common.mechanism.update import Int64
from palate_core.errors import PalateError
from palate_core.privacy_mode import DISTRIBUTED, LOCAL

TEST = "D sensitivity"
DIRECTION: Floats = ALONG.astype(np.float64)
USERS, SUBJECT = 8, 5
SETTINGS = {
    "central, a node of four": Setting(),
    "distributed, a node of four": Setting(mode=DISTRIBUTED),
}
"""The settings with every probe."""
CROWD = 1000
OTHERS = {
    "central, a later round": Setting(rounds=3),
    "distributed, a device a node": Setting(mode=DISTRIBUTED, users_per_node=1),
    "central, a device a node": Setting(users_per_node=1),
    "local, a device a node": Setting(mode=LOCAL, users_per_node=1),
    "distributed, masks": Setting(mode=DISTRIBUTED, users_per_node=1, masks=True),
    "central, a thousand on one node": Setting(users_per_node=CROWD),
    "distributed, a thousand on one node": Setting(mode=DISTRIBUTED, users_per_node=CROWD),
}
QUICK = (
    "against the others",
    "each block at its bound",
    "NaN beside huge",
    "huge: 1e30",
    "huge: 1e30, everywhere",
    "7 equal coordinates at the bound",
    "thirty events",
    "2^32 steps",
    "a shift alone",
    "the pairs at their bound",
    "huge pairs: 1e30",
    "an algorithm that fails",
)
FEWEST = 5
"""Of these, so many are tried in each other setting; the rest take turns."""
FIRST = (
    "central, a later round",
    "distributed, a device a node",
    "local, a device a node",
    "distributed, a thousand on one node",
)
"""The other settings of the quick battery."""


def sensitivity(*, quick: bool = False, turns: bool = True) -> list[Finding]:
    """Every probe: the largest move, and the probe that caused it.

    Args:
        quick: a few probes.
        turns: the settings with every probe take turns, except for those few; so do the others with those few,
            except for the first of them.
    """
    probes = {name: probe for name, probe in all_probes(Setting()).items() if not quick or name in QUICK}
    # The settings differ in who adds the noise and in the devices per node, not in the path of a user's numbers.
    few = {name: probe for name, probe in all_probes(Setting()).items() if name in QUICK}
    fewest = {name: few[name] for name in QUICK[:FEWEST]}
    parts = (
        [
            {
                probe: made
                for place, (probe, made) in enumerate(probes.items())
                if probe in QUICK or place % len(SETTINGS) == turn
            }
            for turn in range(len(SETTINGS))
        ]
        if turns
        else [probes] * len(SETTINGS)
    )
    found = [
        _worst(name, setting, part, n_users=USERS)
        for (name, setting), part in zip(SETTINGS.items(), parts, strict=True)
    ]
    for number, (name, setting) in enumerate(OTHERS.items()):
        mine = fewest if quick else few
        if turns and not quick:
            mine = {probe: few[probe] for place, probe in enumerate(QUICK) if place < FEWEST or (place + number) % 2}
        if not quick or name in FIRST:
            found.append(_worst(name, setting, mine, n_users=max(USERS, setting.users_per_node)))
    return [*found, one_event(quick=quick)]


def _worst(name: str, setting: Setting, probes: dict[str, list[Gesture]], *, n_users: int) -> Finding:
    """The probe that moves a release furthest."""
    test = f"{TEST}: {name}"
    base = _releases(setting, [], n_users=n_users)
    if isinstance(base, str):
        return Finding.checked(test, False, f"the round must end when a user has no events, got: {base}")
    worst, by = 0, "no probe"
    for probe, gestures in probes.items():
        found = _releases(setting, gestures, n_users=n_users)
        if isinstance(found, str):
            return Finding.checked(test, False, f"one user's events must not end a round, got with `{probe}`: {found}")
        for with_, without in zip(found, base, strict=True):
            square = sum(int(step) ** 2 for step in (with_ - without).tolist())
            if square > worst:
                worst, by = square, probe
    said = f"one user moves the sum by at most {math.sqrt(worst):.2f} steps ({by}), {setting.grid} are charged"
    return Finding.checked(test, worst <= setting.grid**2, said, probes=len(probes), squared=str(worst), probe=by)


def _releases(setting: Setting, gestures: list[Gesture], *, n_users: int) -> list[Int64] | str:
    """The releases of a run in which the subject makes some gestures, or the reason why there are none."""
    script = [*others(setting), *gestures]
    acts = [[user % 3] for user in range(n_users)]
    acts[SUBJECT] = list(range(3, len(script)))
    try:
        with probe_run(setting, crowd(acts, n_items=max(len(script), 4)), script) as stage:
            stage.play()
            return [stage.sealed(round_) for round_ in range(setting.rounds)]
    except PalateError as error:
        return str(error)
    except KeyError as error:
        return f"no release {error}"


def others(setting: Setting) -> list[Gesture]:
    """The gestures of all others: one works against the probes, one is far above the clip, one is ordinary."""
    rng = np.random.default_rng(1)
    against = np.zeros(PLAIN)
    against[0] = -50 * setting.clip_norm
    return [
        Gesture(plain=against),
        Gesture(plain=rng.normal(size=PLAIN) * 100, rows=rng.normal(size=ROWS), column=rng.normal(size=COLUMNS)),
        Gesture(plain=rng.normal(size=PLAIN) / 100, square=rng.normal(size=(SQUARE, SQUARE)) / 100, pairs=np.ones(3)),
    ]


def all_probes(setting: Setting) -> dict[str, list[Gesture]]:
    """The subject's probes by name; each is one or more gestures at once."""
    return {name: list(gestures) for part in (_bounds, _huge, _broken, _wraps) for name, gestures in part(setting)}


def _at(values: Floats, norm: float, block: str = "plain") -> Floats:
    """A vector with a given weighted norm."""
    return values * (norm / WEIGHTS[block] / float(np.linalg.norm(values)))


def _centred(rows: Floats, norm: float) -> Gesture:
    """Rows without their part along the direction, with a given weighted norm."""
    shift = rows @ DIRECTION / (DIRECTION @ DIRECTION)
    scale = norm / WEIGHTS["centred"] / float(np.linalg.norm(rows - shift * DIRECTION))
    return Gesture(centred=rows * scale, shift=float(shift * scale), column=np.eye(COLUMNS)[0])


def _paired(rows: Floats, norm: float) -> Floats:
    """Rows whose pairs have a given weighted norm."""
    pairs = np.outer(rows, rows)[np.triu_indices(len(rows), 1)]
    return np.asarray(rows * (norm / WEIGHTS["pairs"] / float(np.linalg.norm(pairs))) ** 0.5)


def _bounds(setting: Setting) -> Iterator[tuple[str, list[Gesture]]]:
    """Contributions at, just below and just above the clip, in every shape."""
    c, ones, rng = setting.clip_norm, np.ones, np.random.default_rng(2)
    table = Gesture(rows=_at(ones(ROWS), c, "table"), column=np.eye(COLUMNS)[0])
    square = Gesture(square=_at(ones(SQUARE**2), c, "square").reshape(SQUARE, SQUARE))
    centred, alone = _centred(rng.normal(size=ROWS), c), Gesture(shift=c, column=np.eye(COLUMNS)[0])
    pairs = Gesture(pairs=_paired(ones(ROWS), c))
    yield "one coordinate at the bound", [Gesture(plain=_at(ones(1), c))]
    yield "against the others", [Gesture(plain=_at(ones(1), 1e6 * c))]
    yield "just above the bound", [Gesture(plain=_at(ones(1), c * (1 + 1e-12)))]
    yield "all coordinates at the bound", [Gesture(plain=_at(ones(PLAIN), c))]
    yield "the table at its bound", [table]
    yield "the square at its bound", [square]
    yield "the centred table at its bound", [centred]
    yield "a shift alone", [alone]
    yield "a shift that is not the rows' own", [centred, alone]
    yield (
        "rows along the direction",
        [Gesture(centred=9 * c * DIRECTION, shift=9 * c, column=np.eye(COLUMNS)[0])],
    )
    yield "the pairs at their bound", [pairs]
    yield "pairs of one large row", [Gesture(pairs=_paired(np.array([1e9, *ones(ROWS - 1)]), c))]
    for m in (2, 3, 5, 8):
        yield f"pairs of {m} equal rows at the bound", [Gesture(pairs=_paired(ones(m), c))]
    yield "each block at its bound", [Gesture(plain=_at(ones(PLAIN), c)), table, square, centred, pairs]
    yield (
        "each block above its bound",
        [Gesture(plain=_at(ones(PLAIN), 9 * c)), table, table, square, square, centred, alone, pairs, pairs],
    )
    yield "tiny", [Gesture(plain=np.full(PLAIN, 5e-324), rows=np.full(ROWS, 1e-300), column=ones(COLUMNS))]
    yield "thirty events", [Gesture(plain=_at(ones(PLAIN), c / 30)) for _ in range(30)]
    yield "thirty opposite events", [Gesture(plain=_at(ones(PLAIN), c) * (-1) ** k) for k in range(30)]
    for m in (2, 3, 5, 7, 11, 13, 17, 19, 23):
        yield f"{m} equal coordinates at the bound", [Gesture(plain=_at(ones(m), c))]
    for k in range(12):
        drawn = [rng.normal(size=size) for size in (PLAIN, ROWS, COLUMNS, SQUARE**2)]
        part = c / 3**0.5
        mix = [Gesture(plain=_at(drawn[0], part)), Gesture(square=_at(drawn[3], part, "square").reshape(3, 3))]
        outer = Gesture(rows=_at(drawn[1], part, "table"), column=drawn[2] / np.linalg.norm(drawn[2]))
        yield f"direction {k} at the bound", [*mix, outer]
        both = (
            _centred(rng.normal(size=ROWS), c * 0.5**0.5),
            Gesture(pairs=_paired(rng.normal(size=ROWS), c * 0.5**0.5)),
        )
        yield f"direction {k} of a centred table and pairs at the bound", [*both]


def _huge(setting: Setting) -> Iterator[tuple[str, list[Gesture]]]:
    """Far above the clip, up to numbers whose squares overflow a float."""
    for power in (3, 9, 30, 100, 153, 155, 200, 300, 308):
        yield f"huge: 1e{power}", [Gesture(plain=np.array([10.0**power]))]
        yield (
            f"huge: 1e{power}, everywhere",
            [Gesture(plain=np.full(PLAIN, -(10.0**power)), rows=np.full(ROWS, 10.0**power), column=np.ones(COLUMNS))],
        )
    yield "huge rows, tiny columns", [Gesture(rows=np.full(ROWS, 1e200), column=np.full(COLUMNS, 1e-200))]
    yield "tiny rows, huge columns", [Gesture(rows=np.full(ROWS, 1e-200), column=np.full(COLUMNS, 1e200))]
    yield "huge rows, no columns", [Gesture(rows=np.full(ROWS, 1e308))]
    yield "the square, huge", [Gesture(square=np.full((SQUARE, SQUARE), 1e12))]
    for power in (3, 9, 30, 70, 100, 300):
        huge = 10.0**power
        yield f"a huge shift: 1e{power}", [Gesture(centred=np.ones(ROWS), shift=huge, column=np.ones(COLUMNS))]
        yield f"huge centred rows: 1e{power}", [Gesture(centred=np.full(ROWS, huge), column=np.ones(COLUMNS))]
        yield (
            f"huge rows along the direction: 1e{power}",
            [Gesture(centred=huge * DIRECTION, shift=huge, column=np.ones(COLUMNS))],
        )
        yield f"huge pairs: 1e{power}", [Gesture(pairs=np.full(ROWS, huge))]
        yield f"a huge row of pairs: 1e{power}", [Gesture(pairs=np.array([huge, 1.0, 1 / huge]))]


def _broken(setting: Setting) -> Iterator[tuple[str, list[Gesture]]]:
    """Not a number, not a table, or no contribution at all, alone and beside harmful numbers."""
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("minus infinite", -np.inf)):
        one = np.zeros(PLAIN)
        one[1] = value
        big = one.copy()
        big[0] = 1e9
        yield name, [Gesture(plain=one)]
        yield f"{name} beside huge", [Gesture(plain=big)]
        yield f"{name} everywhere", [Gesture(plain=np.full(PLAIN, value), square=np.full((SQUARE, SQUARE), value))]
        yield f"{name} in the rows", [Gesture(rows=np.array([1e9, value]), column=np.ones(COLUMNS))]
        yield f"{name} in the shift", [Gesture(centred=np.full(ROWS, 1e9), shift=value, column=np.ones(COLUMNS))]
        yield f"{name} in the pairs", [Gesture(plain=np.full(PLAIN, 1e9), pairs=np.array([1e9, value, 1.0]))]
        yield f"{name} in the columns", [Gesture(rows=np.ones(ROWS) * 1e9, column=np.array([1.0, value, 0.0, 0.0]))]
        yield (
            f"{name} in the square, the rest huge",
            [Gesture(plain=np.full(PLAIN, 1e9), square=np.full((SQUARE, SQUARE), value))],
        )
    share = setting.clip_norm / WEIGHTS["table"] / 10
    column = np.eye(COLUMNS)[0]
    yield "one row a hundred times", [Gesture(rows=np.full(100, share), column=column, at=(3,) * 100)]
    yield "rows in another order", [Gesture(rows=np.full(2, share), column=column, at=(3, 1))]
    yield "a row outside", [Gesture(rows=np.full(1, share), column=column, at=(ROWS,))]
    yield "a row below zero", [Gesture(rows=np.full(1, share), column=column, at=(-1,))]
    yield "an algorithm that fails", [Gesture(fails=True)]


def _wraps(setting: Setting) -> Iterator[tuple[str, list[Gesture]]]:
    """Numbers of steps whose squares are zero modulo a power of two."""
    step = setting.clip_norm / setting.grid / WEIGHTS["plain"]
    for power in (15, 16, 17, 24, 31, 32, 33, 48, 52, 53, 62, 63, 64):
        yield f"2^{power} steps", [Gesture(plain=np.array([2.0**power * step]))]
        yield f"2^{power} steps, four times", [Gesture(plain=np.full(4, 2.0**power * step))]
        pair = setting.clip_norm / setting.grid / WEIGHTS["pairs"]
        yield f"pairs of 2^{power} steps", [Gesture(pairs=np.full(3, (2.0**power * pair) ** 0.5))]
