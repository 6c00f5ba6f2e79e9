"""clips.json: one user's contribution before and after clipping, and the final check of its norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_common.mechanism.clipping import clip
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, OuterBlock, Update
from palate_core.layout import BlockSpec
from palate_core.noise.bounded import bounded

GRIDS = (1, 3, 1000, 2**14, 2**20, 2**26)
Made = dict[str, Any]


def clips() -> dict[str, Any]:
    """One user's contribution before and after clipping, and the final check of its norm."""
    return {
        "says": "A case has one user's blocks, as in contribution.json, their weights, the clip norm and the grid; "
        "`steps` are what is sent, blocks one after the other. Numbers that aren't finite are written as "
        "text.",
        "clips": [_clipped(*case) for case in _cases()],
        "checks": [_checked(*case) for case in _vectors()],
    }


def dense(*values: float) -> Made:
    """A dense block."""
    return {"kind": "dense", "values": list(values)}


def pairs(height: int, rows: dict[int, float]) -> Made:
    """The products of each two of some rows."""
    return {"kind": "pairs", "indices": list(rows), "rows": list(rows.values()), "height": height}


def outer(height: int, rows: dict[int, float], column: list[float], along: Any = None, shift: float = 0.0) -> Made:
    """Rows times a column, perhaps centred."""
    found = {"kind": "outer", "indices": list(rows), "rows": list(rows.values()), "height": height, "column": column}
    return found if along is None else found | {"along": along, "shift": shift}


def shape_of(block: Made) -> list[int]:
    """Its shape in a layout."""
    if block["kind"] == "dense":
        return [len(block["values"])]
    height = block["height"]
    if block["kind"] == "pairs":
        return [height * (height - 1) // 2]
    return [height, len(block["column"])] if len(block["column"]) > 1 else [height]


def block_of(made: Made) -> Block:
    """The block of one user; what isn't finite is text."""
    numbers = {name: [float(each) for each in made[name]] for name in ("values", "rows", "column") if name in made}
    if made["kind"] == "dense":
        return DenseBlock(np.array([numbers["values"]]))
    ends, at = np.array([0, len(made["indices"])], np.int64), np.array(made["indices"], np.int32)
    rows = np.array(numbers["rows"])
    if made["kind"] == "pairs":
        return PairBlock(ends, at, rows, made["height"])
    along = None if "along" not in made else np.array(made["along"], np.int64)
    shift = None if along is None else np.array([made["shift"]])
    return OuterBlock(ends, at, rows, np.array([numbers["column"]]), made["height"], along, shift)


def _cases() -> list[tuple[str, list[Made], list[float], float, int]]:
    grid, one = 2**14, [1.0]
    found: list[tuple[str, list[Made], list[float], float, int]] = [
        ("nothing", [dense(0.0, 0.0, 0.0)], one, 1.0, grid),
        ("below the clip norm: the length stays", [dense(0.25, -0.5)], one, 1.0, grid),
        ("at the clip norm", [dense(0.6, 0.8)], one, 1.0, grid),
        ("at the clip norm, along an axis", [dense(1.0, 0.0)], one, 1.0, grid),
        ("a bit above", [dense(1.0000001, 0.0)], one, 1.0, grid),
        ("five times too long", [dense(3.0, -4.0)], one, 1.0, grid),
        ("far too long", [dense(1e150, -1e150)], one, 1.0, grid),
        ("too long to square", [dense(1e200, 0.0)], one, 1.0, grid),
        ("less than one step is zero", [dense(1 / 2**15, -1 / 2**15, 1.0)], one, 1.0, grid),
        ("halves are cut, not rounded", [dense(1.5 / 2**14, -1.5 / 2**14)], one, 1.0, grid),
        ("so small that squares vanish", [dense(1e-200, -1e-200)], one, 1.0, grid),
        ("a number that isn't finite, first", [dense("NaN", 1.0)], one, 1.0, grid),  # type: ignore[arg-type]  # as text
        ("one that isn't finite, last", [dense(1.0, "Infinity")], one, 1.0, grid),  # type: ignore[arg-type]  # as text
        ("one below all", [dense("-Infinity")], one, 1.0, grid),  # type: ignore[arg-type]  # as text
        ("a clip norm of 1e-6", [dense(1e-6, 1e-6)], one, 1e-6, grid),
        ("a clip norm of 1e6", [dense(3e6, 4e5)], one, 1e6, grid),
        ("a clip norm of 0.3, met exactly", [dense(0.3)], one, 0.3, 1000),
        ("a clip norm of 2.5", [dense(2.0, 1.5)], one, 2.5, grid),
    ]
    found += [(f"grid {each}", [dense(0.6, -0.8, 0.001)], one, 1.0, each) for each in GRIDS]
    found += [(f"grid {each}, one number at the norm", [dense(-1.0)], one, 1.0, each) for each in GRIDS]
    found += [
        ("two blocks, clipped jointly", [dense(3.0, 4.0), dense(-12.0)], [0.6, 0.8], 1.0, grid),
        ("two blocks, the first alone too long", [dense(30.0), dense(0.001)], [0.6, 0.8], 1.0, grid),
        ("each block within, both together not", [dense(1.5), dense(1.1)], [0.6, 0.8], 1.0, grid),
        ("both together within", [dense(1.0), dense(1.0)], [0.6, 0.8], 1.0, grid),
        ("weights from 1 to next to nothing", [dense(0.7), dense(1000.0)], [0.9999, 1e-3], 1.0, grid),
        ("what isn't finite in one block empties all", [dense(0.5), dense("NaN")], [0.6, 0.8], 1.0, grid),  # type: ignore[arg-type]  # as text
        ("an empty block beside a full one", [dense(0.0), dense(0.5)], [0.6, 0.8], 1.0, grid),
        ("a pair block alone", [pairs(4, {0: 1.0, 2: 1.0})], one, 1.0, grid),
        ("no row, so no pair", [pairs(4, {})], one, 1.0, grid),
        ("one row, so no pair", [pairs(4, {1: 3.0})], one, 1.0, grid),
        ("all rows", [pairs(5, {row: 0.5 for row in range(5)})], one, 1.0, grid),
        ("pairs of both signs", [pairs(5, {0: -1.0, 1: 2.0, 4: -0.5})], one, 1.0, grid),
        ("one row much longer than the others", [pairs(4, {0: 1e6, 1: 1e-6})], one, 1.0, grid),
        ("rows of pairs that are too long to square", [pairs(3, {0: 1e80, 1: 1e80})], one, 1.0, grid),
        ("rows times a column", [outer(3, {0: 0.6, 2: 0.8}, [0.6, -0.8])], one, 1.0, grid),
        ("rows times a column, too long", [outer(3, {0: 6.0, 2: 8.0}, [3.0, -4.0])], one, 1.0, grid),
        ("no row", [outer(3, {}, [0.6, -0.8])], one, 1.0, grid),
        ("a column of nothing", [outer(3, {1: 0.5}, [0.0, 0.0])], one, 1.0, grid),
        ("one column is a factor of 1", [outer(4, {0: 0.5, 3: -0.5}, [1.0])], one, 1.0, grid),
        ("one column of another factor", [outer(4, {0: 0.5, 3: -0.5}, [-2.0])], one, 1.0, grid),
        ("a grid that is no power of four", [outer(3, {0: 0.6, 2: 0.8}, [0.6, -0.8])], one, 1.0, 1000),
        ("a grid of 2^15", [outer(3, {0: 0.6, 2: 0.8}, [0.6, -0.8])], one, 1.0, 2**15),
        (
            "centred: what is along (2, 1, 1) is taken off",
            [outer(3, {0: 0.6, 1: 0.8}, [0.6, 0.8], [2, 1, 1], 1 / 3)],
            one,
            1.0,
            grid,
        ),
        ("centred by nothing", [outer(3, {0: 0.6, 1: 0.8}, [0.6, 0.8], [2, 1, 1], 0.0)], one, 1.0, grid),
        ("centred by half of what is along", [outer(3, {0: 0.6, 1: 0.8}, [1.0], [2, 1, 1], 1 / 6)], one, 1.0, grid),
        (
            "rows that lie along it: at most a lever of 8",
            [outer(2, {0: 1.0, 1: 1.0}, [1.0], [1, 1], 1.0)],
            one,
            1.0,
            grid,
        ),
        ("all but along it", [outer(2, {0: 1.0, 1: 1.001}, [1.0], [1, 1], 1.0005)], one, 1.0, grid),
        ("taken off where the user has nothing", [outer(3, {}, [1.0], [2, 1, 1], 0.25)], one, 1.0, grid),
        ("a shift of the other sign", [outer(3, {0: 0.6}, [1.0], [2, 1, 1], -0.25)], one, 1.0, grid),
        ("a long direction", [outer(2, {0: 0.5, 1: 0.25}, [1.0], [30_000, 20_000], 1e-5)], one, 1.0, 2**20),
        ("a direction of nothing", [outer(2, {0: 0.5}, [1.0], [0, 0], 0.0)], one, 1.0, grid),
        (
            "one block of each kind",
            [dense(0.5, 0.25), outer(3, {1: 0.5}, [0.6, 0.8]), pairs(3, {0: 0.5, 2: -1.0})],
            [0.48, 0.6, 0.64],
            1.0,
            grid,
        ),
        (
            "one block of each kind over the same rows, too long",
            [outer(3, {0: 1.0, 1: 2.0}, [1.0]), outer(3, {0: 8.0, 1: 4.0}, [0.6, 0.8]), pairs(3, {0: 3.0, 1: 5.0})],
            [0.48, 0.6, 0.64],
            1.0,
            grid,
        ),
    ]
    rng = np.random.default_rng(11)
    for place in range(12):
        length, wide = (0.1, 0.99, 1.01, 30)[place % 4], GRIDS[rng.integers(len(GRIDS))]
        values = rng.normal(size=5)
        scaled = (values / np.linalg.norm(values) * length).round(6).tolist()
        found.append((f"five numbers of length {length}", [dense(*scaled)], one, 1.0, wide))
        at = np.sort(rng.permutation(6)[:3]).tolist()
        rows = dict(zip(at, rng.normal(0, 0.4, 3).round(3).tolist(), strict=True))
        along = rng.integers(1, 60, 6).tolist() if place % 2 else None
        block = outer(6, rows, rng.normal(size=2).round(3).tolist(), along, 0.0078125)
        says = "three of six rows" + (", centred" if along else "")
        found.append((says, [block], one, 1.0, GRIDS[3 + rng.integers(3)]))
    return found


def _clipped(says: str, blocks: list[Made], weights: list[float], clip_norm: float, grid: int) -> dict[str, Any]:
    layout = [
        BlockSpec(name=f"block {place}", shape=shape_of(block), weight=weight)
        for place, (block, weight) in enumerate(zip(blocks, weights, strict=True))
    ]
    update = Update(tuple(map(block_of, blocks)), 1)
    clipped = clip(update, layout, clip_norm=clip_norm, grid=grid)
    steps = clipped.total().tolist()
    if steps != clipped.vector(0).tolist():
        raise ValueError(f"{says}: the sum of one user's contribution is another")
    case = {"says": says, "blocks": blocks, "layout": [spec.model_dump(mode="json") for spec in layout]}
    return case | {"clip_norm": clip_norm, "grid": grid, "steps": steps}


def _vectors() -> list[tuple[str, list[int], int]]:
    most, whole = 2**26, 2**53
    found = [
        ("nothing", [0, 0, 0], 1),
        ("no number", [], 5),
        ("at the bound, along an axis", [5, 0], 5),
        ("at the bound", [3, -4], 5),
        ("a step beyond", [3, -5], 5),
        ("a step beyond, along an axis", [6], 5),
        ("the other sign", [-5], 5),
        ("the other sign, a step beyond", [-6], 5),
        ("one step more in a number of its own", [3, 4, 1], 5),
        ("a grid of one step", [0, -1, 0], 1),
        ("a grid of one step, twice", [1, 1], 1),
        ("a grid of 1000", [600, 800], 1000),
        ("a grid of 1000, a step beyond", [600, 801], 1000),
        ("four equal parts", [8192] * 4, 2**14),
        ("four equal parts and a step", [8192] * 4 + [1], 2**14),
        ("a hundred ones", [1] * 100, 10),
        ("a hundred and one", [1] * 101, 10),
        ("the largest grid", [most], most),
        ("the largest grid and a step", [most, 1], most),
        ("the largest grid, a step beyond", [most + 1], most),
        ("the largest grid in two parts", [40_265_318, 53_687_091], most),
        ("squares that only differ in their last bit", [most - 1, 11_585], most),
        ("a square of 2^64", [2**32, 0], 1),
        ("a sum of squares that wraps 64 bits to nothing", [2**32] * 4, 2**20),
        ("numbers of 53 bits", [whole - 1, -whole + 1], most),
        ("two large numbers that cancel", [-(2**52), 2**52], most),
        ("many that are each within", [2**14] * 50, 2**14),
    ]
    rng = np.random.default_rng(3)
    for place in range(13):
        grid = (7, 1000, 2**14, 2**20)[place % 4]
        found.append(("five numbers", (rng.integers(-grid, grid + 1, 5) // 2).tolist(), grid))
    return found


def _checked(says: str, vector: list[int], grid: int) -> dict[str, Any]:
    kept = bounded(np.array(vector, np.int64), grid=grid).tolist()
    return {"says": says, "vector": vector, "grid": grid, "sent": kept}
