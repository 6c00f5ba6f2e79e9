"""graphs.json: how many neighbours, shares and samples a cohort needs; rings and their gaps."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from palate_core.errors import InputError
from palate_core.masks.graph import Complete, Ring
from palate_core.masks.graph_terms import graph_terms


def graphs() -> dict[str, Any]:
    """How many neighbours, shares and samples a cohort needs; rings and their gaps."""
    return {
        "says": "Terms are those of secagg.json. A ring is the members in the order of the words of its seed's "
        "keystream; `neighbours` are those of each member in `of`, `index` the place among the owner's "
        "neighbours of the holder.",
        "terms": [_terms(*case) for case in _cohorts()],
        "rings": [
            _ring(n, k) for n, k in ((3, 2), (4, 2), (5, 4), (9, 2), (10, 4), (16, 6), (31, 30), (60, 10), (300, 4))
        ],
        "complete": [_complete(n) for n in (3, 4, 7)],
        "gaps": [_gap(*case) for case in _gaps()],
    }


def _cohorts() -> list[tuple[int, int, int]]:
    small = [
        (3, 0, 0),
        (3, 1, 0),
        (3, 0, 1),
        (3, 2, 0),
        (4, 0, 1),
        (4, 1, 1),
        (5, 1, 1),
        (6, 1, 1),
        (7, 1, 2),
        (10, 1, 4),
    ]
    small += [(10, 1, 5), (10, 9, 0), (10, 8, 0), (10, 0, 9), (20, 2, 8), (20, 2, 9), (100, 1, 49), (100, 1, 50)]
    edge = [(n, n // 10, n // 10) for n in (30, 99, 100, 101, 249, 250, 251, 252, 260, 299, 400, 500, 999, 2000)]
    corrupt = [(1000, c, d) for c, d in ((1, 1), (10, 100), (50, 50), (100, 200), (200, 50), (200, 300), (333, 100))]
    heavy = [
        (1000, 450, 0),
        (1000, 499, 0),
        (1000, 500, 0),
        (300, 100, 100),
        (300, 140, 0),
        (251, 25, 100),
        (251, 0, 0),
    ]
    large = [(4000, 400, 400), (4000, 4, 1000), (10_000, 500, 2000), (20_000, 2000, 1000)]
    wrong = [(2, 0, 0), (10, 11, 0), (10, 0, 11), (10, -1, 0), (0, 0, 0)]
    return [*small, *edge, *corrupt, *heavy, *large, *wrong]


def _terms(n: int, corrupt: int, dropped: int) -> dict[str, Any]:
    says = f"{n} members, of which {corrupt} are corrupt and {dropped} are lost"
    case: dict[str, Any] = {"says": says, "n": n, "corrupt": corrupt, "dropped": dropped}
    try:
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
    except InputError:
        return case | {"refused": True}
    names = ("complete", "neighbours", "threshold", "window_corrupt", "sample", "quorum")
    return case | {name: getattr(found, name) for name in names}


def _ring(n: int, k: int) -> dict[str, Any]:
    seed = hashlib.sha256(f"ring {n}".encode()).digest()
    ring = Ring.from_seed(seed, n)
    of = sorted({0, 1, n // 2, n - 1})
    holders = {member: int(ring.neighbours(member, k)[k // 2]) for member in of}
    return {
        "says": f"{n} members, each with {k} neighbours",
        "seed": seed.hex(),
        "n": n,
        "order": ring.order.tolist(),
        "k": k,
        "of": of,
        "neighbours": [ring.neighbours(member, k).tolist() for member in of],
        "holders": list(holders.values()),
        "index": [1 + ring.neighbours(owner, k).tolist().index(holder) for owner, holder in holders.items()],
    }


def _complete(n: int) -> dict[str, Any]:
    graph = Complete(n)
    near = [graph.neighbours(member, n - 1).tolist() for member in range(n)]
    index = [list(range(1, n))] * n
    return {"says": f"{n} members, all neighbours of each other", "n": n, "neighbours": near, "index": index}


def _gaps() -> list[tuple[str, int, list[int], int, int]]:
    """What a case shows, members, places in the ring that are lost, window and limit."""
    return [
        ("nobody is lost", 12, [], 4, 1),
        ("one is lost, and one is allowed", 12, [3], 4, 2),
        ("one is lost, and none may be", 12, [3], 4, 1),
        ("two in a window", 12, [3, 6], 4, 2),
        ("two a window apart", 12, [3, 7], 4, 2),
        ("a window over the ring's end", 12, [11, 0, 1], 4, 3),
        ("the first and the last place", 12, [11, 0], 2, 2),
        ("two of three in a window", 12, [2, 4, 8], 3, 3),
        ("all are lost", 12, list(range(12)), 4, 4),
        ("a window of the whole ring", 12, [0, 6], 12, 2),
        ("a window of one", 12, [5], 1, 1),
        ("every second one", 12, list(range(0, 12, 2)), 4, 3),
        ("every second one, as many as are allowed", 12, list(range(0, 12, 2)), 4, 2),
    ]


def _gap(says: str, n: int, lost: list[int], window: int, limit: int) -> dict[str, Any]:
    seed = hashlib.sha256(f"ring {n}".encode()).digest()
    ring = Ring.from_seed(seed, n)
    alive = np.ones(n, np.bool_)
    alive[ring.order[lost]] = False
    members = np.flatnonzero(~alive).tolist()
    facts = {"seed": seed.hex(), "n": n, "lost": members, "window": window, "limit": limit}
    return {"says": says, **facts, "gap": ring.gaps(alive, window, limit)}
