"""Poisoning: what modified devices reach on real logs and on 100,000 made users.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/poisoning/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.measure import DELTA, ML_1M, RETAIL, DataSet
from benchmarks.poisoning.attacked_run import AttackedSetting, Played, play
from benchmarks.poisoning.section import ONE, Cell, armed
from benchmarks.poisoning.world import World, goal_of, judged, read_world
from benchmarks.sheet import Part, Table, main
from benchmarks.worlds import long_log
from palate_core.accounting import epsilon_of, mu_of
from palate_server.rounds import coordinator

USERS, ITEMS, MEAN = 125_000, 5_000, 20
"""The made world: a fifth of the users is held out."""
MIDDLE = AttackedSetting(dp="distributed")
GROUPS = (2, 4, 16)
"""Groups of a cohort whose sums would be opened apart, each with noise that suffices by itself."""
CELLS = (
    *(Cell(replace(MIDDLE, share=share), "promote", "crafted") for share in (0.001, 0.01, 0.05)),
    Cell(replace(MIDDLE, share=0.01), "promote", "shilling-bandwagon"),
    Cell(replace(MIDDLE, share=0.01), "promote", "FedRecAttack"),
    Cell(replace(MIDDLE, share=0.05), "promote", "shilling-bandwagon"),
    Cell(replace(MIDDLE, share=0.05), "promote", "FedRecAttack"),
    Cell(replace(MIDDLE, share=0.01), "backdoor", "crafted"),
    Cell(replace(MIDDLE, share=0.01), "bury", "crafted"),
    Cell(replace(MIDDLE, share=0.05), "destroy", "crafted"),
    Cell(replace(MIDDLE, share=ONE, unclipped="blind"), "promote", "crafted"),
    Cell(replace(MIDDLE, share=ONE, unclipped="edge"), "promote", "crafted"),
)
FEW_CELLS = (*CELLS[:3], *CELLS[-2:])
NOTE = (
    "`als`, distributed, eps 5 (delta 1e-5, unit user, adjacency zero-out, accountant: Palate's closed form). "
    "Exposure: share of people who never took part and see the target in the first 20. `unchecked`: the sum as it came."
)


GROUPS_NOTE = (
    "Not built. Quality is that of noise with g times the variance; the bound is of the test's sampling alone."
)


@dataclass(frozen=True)
class Where:
    """A population and what is played on it."""

    label: str
    cells: tuple[Cell, ...]
    set_: DataSet | None = None

    def world(self, data: Path, seed: int) -> World:
        """The log, split by this seed."""
        if self.set_ is not None:
            found = read_world(data / str(self.set_.folder), seed=seed, core=self.set_.core)
            return replace(found, name=self.label)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.parquet"
            long_log.write(path, users=USERS, items=ITEMS, mean=MEAN, seed=seed)
            return replace(read_world(path, seed=seed), name=self.label)


@contextmanager
def unchecked() -> Iterator[None]:
    """Apply every sum, as before sums were looked at."""
    with mock.patch.object(coordinator, "require_possible", return_value=None):
        yield


def measure(where: Where, data: Path, seeds: int) -> Any:
    """Every cell of every seed, and honest runs beside them; quality of honest runs if groups were opened apart."""
    found = []
    for seed in range(seeds):
        world = where.world(data, seed)
        honest = play(world, MIDDLE, None, seed=seed)
        rows = [_cell(world, cell, honest, seed) for cell in where.cells]
        found.append({"seed": seed, "users": world.users, "items": world.train.n_items, "cells": rows})
        found[-1]["groups"] = _groups(world, honest, seed)
    return found


def _cell(world: World, cell: Cell, honest: Played, seed: int) -> dict[str, Any]:
    goal = goal_of(cell.goal, world, seed=seed)
    attack = armed(cell, goal, seed)
    row: dict[str, Any] = {
        "goal": cell.goal, "attack": cell.attack, "unclipped": cell.setting.unclipped,
        "attackers": cell.setting.attackers(world.users),
        "honest": vars(judged(honest.model, world, goal, seed=seed)),
    }  # fmt: skip
    played = play(world, cell.setting, attack, seed=seed, former=honest.model)
    row |= {"void": played.void, "released": len(played.plans), "sent": max(played.watched.lengths)}
    row["attacked"] = vars(judged(played.model, world, goal, seed=seed)) if played.plans else None
    if cell.setting.unclipped == "blind":
        with unchecked():
            played = play(world, cell.setting, attack, seed=seed, former=honest.model)
        row["unchecked"] = vars(judged(played.model, world, goal, seed=seed))
    return row


def _groups(world: World, honest: Played, seed: int) -> list[dict[str, Any]]:
    """What opening groups apart would cost and buy.

    Each device is in one group, so its cost is the same, and the sum of g groups has g times the variance: the quality
    is that of mu / sqrt(g). A group of m = n / g devices is drawn at random; by McDiarmid's inequality for permutations
    (El-Yaniv and Pechyony 2009, lemma 2) its sum is further than G (sqrt(m) + sqrt(2 m x)) from m / n of the whole with
    probability at most e^-x. So a device that moves its group further than twice that, beside the noise, is seen.
    """
    goal = goal_of("destroy", world, seed=seed)
    full = judged(honest.model, world, goal, seed=seed).quality
    mu = mu_of(epsilon=float(MIDDLE.epsilon or 0), delta=DELTA)
    found = [{"groups": 1, "quality": full, "moved": float(2 * world.users)}]
    for groups in GROUPS:
        epsilon = epsilon_of(mu=mu / np.sqrt(groups), delta=DELTA)
        fewer = play(world, replace(MIDDLE, epsilon=epsilon), None, seed=seed)
        m, doubt = world.users / groups, np.log(groups) + 41 * np.log(2)
        moved = 2 * (np.sqrt(m) + np.sqrt(2 * m * doubt))
        quality = judged(fewer.model, world, goal, seed=seed).quality
        found.append({"groups": groups, "quality": quality, "moved": float(min(moved, 2 * m))})
    return found


def tables_of(where: Where, figures: Any) -> list[Table]:
    """The attacks, and what groups would cost and buy; the first seed's."""
    first = figures[0]
    users = f"{first['users']:,} users, {first['items']:,} items"
    rows = [_row(each) for each in first["cells"]]
    header = ("goal", "attack", "attackers", "honest", "unchecked", "attacked", "nDCG@20 honest", "attacked")
    groups = [
        (
            f"{each['groups']}", f"{each['quality']:.4f}",
            f"{each['quality'] / first['groups'][0]['quality']:.3f}", f"{each['moved']:,.0f}",
        )
        for each in first["groups"]
    ]  # fmt: skip
    told = ("groups", "nDCG@20", "of one sum", "one device moves at most, clip norms")
    return [
        Table(f"{where.label}: attacks ({users})", header, rows, NOTE),
        Table(f"{where.label}: groups opened apart", told, groups, GROUPS_NOTE),
    ]


def _row(each: Any) -> tuple[str, ...]:
    target = each["goal"] != "destroy"
    kind = {"": "", "blind": ", all that the modulus bears", "edge": ", to the edge"}[each["unclipped"]]

    def exposed(name: str) -> str:
        found = each.get(name)
        return f"{found['exposure']:.3f}" if found and target else ""

    attacked = exposed("attacked") if each["attacked"] else "void"
    after = f"{each['attacked']['quality']:.3f}" if each["attacked"] else "void"
    shown = exposed("unchecked") or (attacked if each["attacked"] else "")
    named = (each["goal"], f"{each['attack']}{kind}", f"{each['attackers']:,}")
    return (*named, exposed("honest"), shown, attacked, f"{each['honest']['quality']:.3f}", after)


WHERE = {
    "ml-1m": Where("MovieLens 1M", CELLS, ML_1M),
    "retail": Where("Online Retail", CELLS, RETAIL),
    "made": Where("100,000 made users", FEW_CELLS),
}
PARTS = {name: Part(partial(measure, where), partial(tables_of, where)) for name, where in WHERE.items()}
if __name__ == "__main__":
    promise = f"delta {DELTA:g}, unit user, adjacency zero-out, accountant: Palate's closed form"
    protocol = f"split strong, {promise}; production rounds, secure noise"
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, protocol=protocol)
