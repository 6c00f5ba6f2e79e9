"""Poisoning: what modified devices reach on real logs and on 100,000 made users, and what holds them back.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/poisoning/run.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from palate_audit.poisoning.attacked_run import AttackedSetting, Played, PoisoningAttack, play
from palate_audit.poisoning.campaign import RUNS, CampaignTurn, accused, campaign
from palate_audit.poisoning.section import ONE, Cell, armed
from palate_audit.poisoning.verdicts import (
    STRENGTHS,
    Weaker,
    cohort_of,
    defended,
    divided,
    held_again,
    said,
    verdict_on,
)
from palate_audit.poisoning.world import Goal, World, goal_of, judged, read_world

from benchmarks.journal import once_each
from benchmarks.measure import DELTA, ML_1M, RETAIL, DataSet
from benchmarks.poisoning import honest
from benchmarks.sheet import Part, Table, main, mean_interval
from benchmarks.worlds import long_log
from palate_common.models.model import GlobalModel
from palate_core.accounting import epsilon_of, mu_of
from palate_server.rounds import coordinator
from palate_server.surveys.verdict import Judgement

USERS, ITEMS, MEAN = 125_000, 5_000, 20
"""The made world: a fifth of the users is held out."""
MIDDLE = AttackedSetting(dp="distributed")
EXACT = AttackedSetting(dp="off", epsilon=None)
REDRAWN = 100
"""Draws of the noise for each verdict on an honest model."""
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
    "`als`, distributed, eps 5 (delta 1e-5, unit user, adjacency zero-out, accountant: Palate's closed form), no item "
    "features. Exposure: people who never took part and haven't the target, and have it among their first 20; for a "
    "backdoor those of its group. `unchecked`: the same sum, if it were applied as it came."
)


GROUPS_NOTE = (
    "Not built. Quality is that of noise with g times the variance; the bound is that of the test's sampling alone, to "
    "which what hides in the noise comes, and for one sum it is twice the cohort."
)
JUDGED_NOTE = (
    "Training and verdict cost eps 5 together, of which the verdict has 5 % of mu^2. Devices compare with an honest "
    "model of the same people. `held`: attackers vote as everybody does. `defended`: they spend their whole norm in "
    "the verdict as it serves them best, and train with as much of their strength (1, 0.7, 0.5, 0.35, 0.25; of 100,000 "
    "1, 0.35, 0.12) as is published then; 0: nothing is, and the honest model stays."
)
HONEST_NOTE = (
    "Honest runs, each trained and judged beside another. `further draws`: the same votes with "
    "other draws of the known noise. `seen from`: about the least exposure at which an item that "
    "nobody has is named, by the noise alone. Quality: of what is left of the budget beside that of all of it."
)

SEEDS_NOTE = (
    "For each seed another population, other attackers, another target and fresh noise. Exposure and nDCG@20: means, "
    "and the least and the largest. `of honest`: nDCG beside that of the honest model of the same seed, the mean and "
    "its 95 % interval by Student's t. A second honest model says what noise alone does. `published`: of attackers who "
    "vote with all their norm and train with as much of their strength (1, 0.35, 0.12) as gets past. `weights`: of "
    "pairs, as devices elected them in noise, seed by seed."
)

AGAIN_NOTE = (
    "Each run is trained and judged against the model in use, which stays if it is held; an item that goes into "
    "quarantine is left out of the next three. `voting`: attackers spend their whole norm in each verdict for their "
    "model; else they vote as everybody does. Exposure of the target, and quality, by the model in use after each run; "
    "`out`: runs in which the target was in quarantine."
)
ACCUSED_NOTE = (
    "An honest model of the same people, its 20 items that are shown most. `held`: the least share of those who judge "
    "whose false votes, all on one item, hold the model; `buried`: the least that puts that item into quarantine, with "
    "`judging.quarantine_accusers` 0.01. The least and the median over these items, to a tenth of it. `pushed`: what "
    "comes of the tenth of them where attackers push it in training, so that honest devices find it less."
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


@dataclass(frozen=True)
class JudgedWhere:
    """A population whose devices judge.

    Attributes:
        where: the population, and what is played on it.
        honest: honest runs that are judged.
        strengths: see `defended`.
        judges: see `defended`.
        whole: honest runs with the whole budget, at most.
    """

    where: Where
    honest: int
    strengths: Sequence[float] = STRENGTHS
    judges: int = 0
    whole: int = 10


@dataclass(frozen=True)
class AgainWhere:
    """A population whose attackers come again.

    Attributes:
        where: the population.
        campaigns: share of attackers, and whether they vote for their model.
        judges: see `campaign`.
    """

    where: Where
    campaigns: tuple[tuple[float, bool], ...] = ((0.01, True), (0.05, True), (0.05, False))
    judges: int = 0


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


def measure_judged(where: JudgedWhere, data: Path, seeds: int) -> Any:
    """Honest runs that are judged, and attacks on runs that are."""
    found = []
    for seed in range(seeds):
        world = where.where.world(data, seed)
        judging = cohort_of(world, where.judges)
        epsilon = float(MIDDLE.epsilon or 0)
        calm = replace(MIDDLE, epsilon=divided(epsilon).training)
        in_use = play(world, calm, None, seed=seed).model
        quality = [judged(in_use, world, goal_of("destroy", world, seed=seed), seed=seed).quality]
        verdicts, again = list[Judgement](), 0
        for run in range(where.honest):
            model = play(world, calm, None, seed=seed).model
            quality.append(judged(model, world, goal_of("destroy", world, seed=seed), seed=seed).quality)
            verdict = verdict_on(judging, MIDDLE, model, in_use, None, seed=seed)
            verdicts.append(said(verdict, devices=judging.users))
            exact = verdict_on(judging, EXACT, model, in_use, None, seed=seed)
            again += held_again(exact, verdict, devices=judging.users, draws=REDRAWN, seed=run)
        full = [play(world, MIDDLE, None, seed=seed).model for _ in range(min(where.honest, where.whole))]
        whole = [judged(each, world, goal_of("destroy", world, seed=seed), seed=seed).quality for each in full]
        found.append(
            {
                "seed": seed, "users": world.users, "judges": judging.users, "items": world.train.n_items,
                "honest runs": len(verdicts),
                "held": sum(each.held for each in verdicts), "redrawn": REDRAWN * len(verdicts), "held again": again,
                "lost": [each.lost for each in verdicts], "error": float(np.mean([each.error for each in verdicts])),
                "least": float(np.mean([each.least for each in verdicts])), "quality": float(np.mean(quality)),
                "whole quality": float(np.mean(whole)),
                "cells": [_judged_cell(world, cell, in_use, where, seed) for cell in where.where.cells
                          if not cell.setting.unclipped],
            }
        )  # fmt: skip
    return found


def _judged_cell(world: World, cell: Cell, in_use: GlobalModel, where: JudgedWhere, seed: int) -> Any:
    goal = goal_of(cell.goal, world, seed=seed)
    attack = armed(cell, goal, seed)
    plain = play(world, cell.setting, attack, seed=seed, former=in_use)
    found = defended(
        world, cell.setting, goal, attack, in_use, seed=seed, strengths=where.strengths, judges=where.judges
    )
    return {
        "goal": cell.goal, "attack": cell.attack, "attackers": cell.setting.attackers(world.users),
        "honest": vars(judged(in_use, world, goal, seed=seed)),
        "attacked": vars(judged(plain.model, world, goal, seed=seed)),
        "held": found.plain, "reasons": list(found.reasons), "strength": found.strength,
        "defended": vars(judged(found.model, world, goal, seed=seed)),
    }  # fmt: skip


def measure_seeds(where: JudgedWhere, data: Path, seeds: int) -> Any:
    """One attack on other people each time."""
    name = f"poisoning-{where.where.label}".replace(" ", "-")
    return once_each(name, range(seeds), lambda seed: _one_seed(where, data, seed), about=where)


def _one_seed(where: JudgedWhere, data: Path, seed: int) -> Any:
    """Honest models, attacked ones, and what is published where devices judge."""
    world, (cell,) = where.where.world(data, seed), where.where.cells
    goal, judging = goal_of(cell.goal, world, seed=seed), cohort_of(world, where.judges)
    attack, calm = armed(cell, goal, seed), replace(MIDDLE, epsilon=divided(float(MIDDLE.epsilon or 0)).training)
    in_use, again = (play(world, calm, None, seed=seed).model for _ in range(2))
    verdict = said(verdict_on(judging, MIDDLE, again, in_use, None, seed=seed), devices=judging.users)
    weak = Weaker(attack, min(where.strengths))
    plain, weakly = (play(world, cell.setting, each, seed=seed, former=in_use).model for each in (attack, weak))
    found = defended(
        world, cell.setting, goal, attack, in_use, seed=seed, strengths=where.strengths, judges=where.judges
    )
    models = {
        "honest": in_use, "honest again": again, "undefended": plain, "undefended, weak": weakly,
        "published": found.model,
    }  # fmt: skip
    return {
        "seed": seed, "users": world.users, "judges": judging.users, "items": world.train.n_items,
        "attackers": cell.setting.attackers(world.users), "honest held": verdict.held, "honest lost": verdict.lost,
        "held": found.plain, "reasons": list(found.reasons), "strength": found.strength, "weak": weak.strength,
        "models": {name: vars(judged(model, world, goal, seed=seed)) | {"weight": _weight(model)}
                   for name, model in models.items()},
    }  # fmt: skip


def _weight(model: GlobalModel) -> float | None:
    """The weight of pairs that devices elected; None where no pairs are counted."""
    weight = model.state.get("pairs_weight")
    return None if weight is None else float(weight[0])


def measure_again(where: AgainWhere, data: Path, seeds: int) -> Any:
    """Campaigns of several runs with quarantine, and what it takes to bury an honest item."""
    found = []
    for seed in range(seeds):
        world = where.where.world(data, seed)
        judging, calm = cohort_of(world, where.judges), divided(float(MIDDLE.epsilon or 0)).training
        in_use, honest = (play(world, replace(MIDDLE, epsilon=calm), None, seed=seed).model for _ in range(2))
        goal, rows = goal_of("promote", world, seed=seed), list[dict[str, Any]]()
        for share, voting in where.campaigns:
            turns = _campaign(world, share, [goal] * RUNS, in_use, voting=voting, judges=where.judges, seed=seed)
            rows.append({"share": share, "voting": voting, "turns": [asdict(each) for each in turns]})
        verdict = verdict_on(judging, MIDDLE, honest, in_use, None, seed=seed).model
        items = accused(verdict, devices=judging.users)
        pushed = replace(goal, target=items[PUSHED].row)
        share = where.campaigns[-1][0]
        (turn,) = _campaign(world, share, [pushed], in_use, voting=False, judges=where.judges, seed=seed)
        found.append(
            {
                "seed": seed, "users": world.users, "judges": judging.users, "items": world.train.n_items,
                "honest": vars(judged(in_use, world, goal, seed=seed)), "campaigns": rows,
                "accused": [asdict(each) for each in items],
                "pushed": {"share": share, "exposure": items[PUSHED].exposure, "held": turn.held, "named": turn.named,
                           "proven": turn.proven},
            }
        )  # fmt: skip
    return found


def _campaign(
    world: World, share: float, goals: Sequence[Goal], in_use: GlobalModel, *, voting: bool, judges: int, seed: int
) -> tuple[CampaignTurn, ...]:
    setting = replace(MIDDLE, share=share)

    def attack(goal: Goal) -> PoisoningAttack:
        return armed(Cell(setting, "promote", "crafted"), goal, seed)

    return campaign(world, setting, goals, attack, in_use, seed=seed, judges=judges, voting=voting)


def again_tables(where: AgainWhere, figures: Any) -> list[Table]:
    """What attackers come to in several runs, and what it takes to bury an item; the first seed's."""
    first, label = figures[0], where.where.label
    header = (
        "attackers", "voting", "exposure honest", *(f"after run {run + 1}" for run in range(RUNS)), "held", "out",
        "nDCG@20 honest", "after the last",
    )  # fmt: skip
    rows = [
        (
            f"{each['share']:.0%}", "yes" if each["voting"] else "no", f"{first['honest']['exposure']:.3f}",
            *(f"{turn['exposure']:.3f}" for turn in each["turns"]), f"{sum(turn['held'] for turn in each['turns'])}",
            f"{sum(turn['target'] in turn['out'] for turn in each['turns'])}", f"{first['honest']['quality']:.3f}",
            f"{each['turns'][-1]['quality']:.3f}",
        )
        for each in first["campaigns"]
    ]  # fmt: skip
    items, pushed = first["accused"], first["pushed"]
    shares = [f"{kind(each[name] for each in items):.1%}" for name in ("named", "buried") for kind in (min, _median)]
    what = "in quarantine" if pushed["proven"] else "held" if pushed["held"] else "published"
    told = (
        "exposure of the items",
        "held: least",
        "median",
        "buried: least",
        "median",
        f"pushed by {pushed['share']:.0%}",
    )
    exposures = f"{min(each['exposure'] for each in items):.0%} to {max(each['exposure'] for each in items):.0%}"
    users = f"{first['users']:,} users, of whom {first['judges']:,} judge, {first['items']:,} items"
    return [
        Table(f"{label}: attackers who come again ({users})", header, rows, AGAIN_NOTE),
        Table(f"{label}: honest items that are accused", told, [(exposures, *shares, what)], ACCUSED_NOTE),
    ]


def _median(shares: Iterable[float]) -> float:
    return float(np.median(list(shares)))


def judged_tables(where: JudgedWhere, figures: Any) -> list[Table]:
    """What verdicts hold back, and what honest runs come to; the first seed's."""
    first, label = figures[0], where.where.label
    header = (
        "goal", "attack", "attackers", "honest", "attacked", "held", "defended", "strength", "nDCG@20 honest",
        "attacked", "defended",
    )  # fmt: skip
    rows = [
        (
            each["goal"], each["attack"], f"{each['attackers']:,}",
            *(f"{each[name]['exposure']:.3f}" if each["goal"] != "destroy" else "" for name in ("honest", "attacked")),
            "yes" if each["held"] else "no", f"{each['defended']['exposure']:.3f}" if each["goal"] != "destroy" else "",
            f"{each['strength']:g}", *(f"{each[name]['quality']:.3f}" for name in ("honest", "attacked", "defended")),
        )
        for each in first["cells"]
    ]  # fmt: skip
    share = first["quality"] / first["whole quality"]
    honest = (
        f"{first['honest runs']}", f"{first['held']}",
        f"{first.get('redrawn', 0):,}", f"{first.get('held again', 0)}",
        f"{max(map(abs, first['lost'])):.1%}", f"{first['error']:.1%}",
        f"{first['least']:.0%}", f"{share:.3f}",
    )  # fmt: skip
    told = ("runs", "held", "further draws", "of them held", "lost at most", "error", "seen from", "quality")
    users = f"{first['users']:,} users, of whom {first.get('judges', first['users']):,} judge, {first['items']:,} items"
    return [
        Table(f"{label}: models that devices judge ({users})", header, rows, JUDGED_NOTE),
        Table(f"{label}: honest models that devices judge", told, [honest], HONEST_NOTE),
    ]


def seeds_tables(where: JudgedWhere, figures: Any) -> list[Table]:
    """What noise alone does to quality beside what the attack does: one row a model, over all seeds."""
    first, rows = figures[0], list[tuple[str, ...]]()
    weak, held = f"{first['weak']:g} of their strength", sum(each["held"] for each in figures)
    strengths = ", ".join(f"{each['strength']:g}" for each in figures)
    labels = {
        "honest": "honest, in use", "honest again": "honest, again", "undefended": "attacked, undefended",
        "undefended, weak": f"attacked with {weak}, undefended",
        "published": f"published where devices judge, with {strengths} of it",
    }  # fmt: skip
    for name, label in labels.items():
        models = [each["models"][name] for each in figures]
        ratio, off = mean_interval(
            [own["quality"] / each["models"]["honest"]["quality"] for own, each in zip(models, figures, strict=True)]
        )
        rows.append(
            (
                label, *(_spread([each[key] for each in models]) for key in ("exposure", "quality")),
                "1" if name == "honest" else f"{ratio:.3f} ± {off:.3f}",
                ", ".join(f"{each['weight']:g}" if each["weight"] is not None else "none" for each in models),
            )
        )  # fmt: skip
    users = f"{first['users']:,} users, of whom {first['judges']:,} judge and {first['attackers']:,} attack"
    said = f" With all their strength they were held {held} times of {len(figures)}; of the second honest models "
    said += f"{sum(each['honest held'] for each in figures)} were."
    header = ("model", "exposure", "nDCG@20", "of honest", "weights")
    title = f"{where.where.label}: one attacker in a hundred, {len(figures)} seeds ({users})"
    return [Table(title, header, rows, SEEDS_NOTE + said)]


def _spread(values: Sequence[float]) -> str:
    """Mean, least and largest."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


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
JUDGED_CELLS = (*CELLS[:3], *CELLS[7:10])
JUDGED = {
    "ml-1m-judged": JudgedWhere(replace(WHERE["ml-1m"], cells=JUDGED_CELLS), honest=40),
    "retail-judged": JudgedWhere(replace(WHERE["retail"], cells=JUDGED_CELLS), honest=40),
    "made-judged": JudgedWhere(WHERE["made"], honest=4, strengths=(1.0, 0.35, 0.12), judges=20_000, whole=2),
}
SEEDS = {
    "made-seeds": replace(JUDGED["made-judged"], where=replace(WHERE["made"], cells=(FEW_CELLS[1],))),
}
AGAIN = {
    "ml-1m-again": AgainWhere(WHERE["ml-1m"]),
    "retail-again": AgainWhere(WHERE["retail"]),
    "made-again": AgainWhere(WHERE["made"], campaigns=((0.01, True),), judges=20_000),
}
PUSHED = 9
"""The place of the item that is pushed so that it is buried, among those that are shown most."""
PARTS = {name: Part(partial(measure, where), partial(tables_of, where)) for name, where in WHERE.items()}
PARTS |= {name: Part(partial(measure_judged, where), partial(judged_tables, where)) for name, where in JUDGED.items()}
PARTS |= {name: Part(partial(measure_seeds, where), partial(seeds_tables, where)) for name, where in SEEDS.items()}
PARTS |= {name: Part(partial(measure_again, where), partial(again_tables, where)) for name, where in AGAIN.items()}
PARTS["honest"] = Part(lambda _, seeds: honest.measure(seeds), honest.tables)

if __name__ == "__main__":
    promise = f"delta {DELTA:g}, unit user, adjacency zero-out, accountant: Palate's closed form"
    protocol = f"split strong, {promise}; production rounds, secure noise"
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, protocol=protocol)
