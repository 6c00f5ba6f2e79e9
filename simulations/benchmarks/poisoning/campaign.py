"""Campaign: attackers who come again, run after run, where items that they push go into quarantine.

    an honest model in use -> (train, attackers in it -> verdict, attackers in it -> published, or held and an item out)
                              x runs -> what everybody is shown, and how good it is, after each

In each run attackers do what does most for them: they train with all their strength, and spend their whole norm in the
verdict so that their model passes; where no vote gets it past, so that their item stays out of quarantine. They go on
with one item, or take another one each time. An item goes there that a verdict proves pushed, or names, if the model in
use hardly shows it.

The other way round, `accused` counts how many false votes put an honest item there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from palate_audit.poisoning.attacked_run import AttackedSetting, Played, PoisoningAttack, play
from palate_audit.poisoning.verdicts import SPLITS, cohort_of, divided, moved_by, rarely_found, verdict_on, without
from palate_audit.poisoning.world import Goal, World, judged

from palate_common.algorithms.als.vote import LIST
from palate_common.algorithms.parts.quarantine import inputs_of
from palate_common.algorithms.verdict import BLOCKS, FOUND, SHOWN
from palate_common.models.model import GlobalModel
from palate_server.folder.config import JudgingSettings
from palate_server.surveys.accusation import proven, seen
from palate_server.surveys.verdict import Judgement, judgement

RUNS = 4
"""Runs in a row."""
LASTS, ACCUSERS = JudgingSettings().quarantine_runs, JudgingSettings().quarantine_accusers
"""For how many of them an item is left out, and which share of accusers its proof withstands: a server's defaults."""
SHARES = np.round(np.geomspace(0.002, 0.5, 60), 4)
"""Shares of accusers that are tried."""


@dataclass(frozen=True)
class CampaignTurn:
    """One run of a campaign.

    Attributes:
        target: the item that is pushed.
        out: rows of the items that were in quarantine in it.
        held: whether its model was held.
        named: whether the verdict named the target.
        proven: whether it goes into quarantine.
        exposure: of the target, by the model in use after it.
        quality: of that model.
    """

    target: int
    out: tuple[int, ...]
    held: bool
    named: bool
    proven: bool
    exposure: float
    quality: float


def campaign(
    world: World,
    setting: AttackedSetting,
    goals: Sequence[Goal],
    attack: Callable[[Goal], PoisoningAttack],
    in_use: GlobalModel,
    *,
    seed: int = 0,
    judges: int = 0,
    voting: bool = True,
    accusers: float = ACCUSERS,
) -> tuple[CampaignTurn, ...]:
    """Play one run for each goal, one after the other, each from the model that is in use then.

    Args:
        world: its people.
        setting: of the runs; its epsilon is that of a training and its verdict together.
        goals: what is wanted in each run.
        attack: what attackers train with for a goal.
        in_use: the honest model that was published before.
        seed: as of `play`.
        judges: how many devices a verdict asks, of whom as large a part is modified; 0: all.
        voting: whether attackers vote for their model; else as everybody does.
        accusers: as of `proven`.
    """
    epsilon = None if setting.epsilon is None else divided(setting.epsilon).training
    asked_of, until, turns = cohort_of(world, judges), dict[int, int](), list[CampaignTurn]()
    calm = replace(setting, share=0.0)
    shown = seen(verdict_on(asked_of, calm, in_use, in_use, None, seed=seed).model, devices=asked_of.users)
    modified = setting.attackers(asked_of.users)
    honest = without(asked_of, modified, seed=seed)
    for number, goal in enumerate(goals):
        out = tuple(sorted(row for row, end in until.items() if end > number))
        inputs = inputs_of(out, world.train.n_items, in_use.item_arrays)
        trained = play(world, replace(setting, epsilon=epsilon), attack(goal), seed=seed, former=in_use, inputs=inputs)
        verdict = verdict_on(honest, calm, trained.model, in_use, None, seed=seed)
        devices = asked_of.users if voting else honest.users
        rarest = rarely_found(verdict, devices=honest.users)
        read = (
            [_moved(verdict, moved_by(goal, split, modified, world, rarest)) for split in SPLITS]
            if voting
            else [verdict.model]
        )
        told = [judgement(each, devices=devices) for each in read]
        passed = [model for model, said in zip(read, told, strict=True) if not said.held]
        into = set[int]()
        if passed:
            in_use, shown = trained.model, seen(passed[0], devices=devices)
        else:
            into = set.intersection(
                *(left_out(model, said, shown=shown, accusers=accusers) for model, said in zip(read, told, strict=True))
            )
            until |= dict.fromkeys(into, number + 1 + LASTS)
        named = all(goal.target in {item.row for item in each.pushed} for each in told)
        found = judged(in_use, world, goal, seed=seed)
        turns.append(
            CampaignTurn(goal.target, out, not passed, named, goal.target in into, found.exposure, found.quality)
        )
    return tuple(turns)


def left_out(verdict: GlobalModel, said: Judgement, *, shown: Collection[int], accusers: float) -> set[int]:
    """The items that go into quarantine, where there is room for all.

    Args:
        verdict: the released one.
        said: what it says.
        shown: the items that people see by the model in use.
        accusers: as of `proven`.
    """
    proved = {item.row for item in proven(verdict, said, accusers=accusers)}
    return proved | {item.row for item in said.pushed if item.row not in shown}


def _moved(played: Played, moved: Sequence[tuple[str, int, float]]) -> GlobalModel:
    """A released verdict with what modified devices would have added to its sums."""
    state = {name: array.copy() for name, array in played.model.state.items()}
    for block, place, amount in moved:
        state[block][place] += amount
    return replace(played.model, state=state)


@dataclass(frozen=True)
class AccusedItem:
    """What it takes to make an honest item look pushed, by false votes alone.

    Attributes:
        row: of the item.
        exposure: the share of lists that it is in.
        named: the least share of accusers by which a model is held; infinite: half of them aren't enough.
        buried: the least share that puts it into quarantine.
    """

    row: int
    exposure: float
    named: float
    buried: float


def accused(model: GlobalModel, *, devices: int, most: int = 20, accusers: float = ACCUSERS) -> tuple[AccusedItem, ...]:
    """The items that are shown most, and how many of those who judge must vote falsely to hold or to bury each.

    Args:
        model: the released verdict on an honest model.
        devices: that answer, all of them honest; accusers take the place of as many.
        most: items that are looked at.
        accusers: as of `proven`.
    """
    rows = np.argsort(-model.state[SHOWN], kind="stable")[:most].tolist()
    return tuple(
        AccusedItem(
            row,
            float(model.state[SHOWN][row] / devices),
            *(_least(model, row, devices, each) for each in (None, accusers)),
        )
        for row in rows
    )


def _least(model: GlobalModel, row: int, devices: int, accusers: float | None) -> float:
    """The least share of `SHARES` that does it, by the best split of the norm; without `accusers`: names the item."""
    shares = SHARES.tolist()
    enough = bisect_left(shares, True, key=lambda share: _does(model, row, devices, accusers, share))
    return float(shares[enough]) if enough < len(shares) else float("inf")


def _does(model: GlobalModel, row: int, devices: int, accusers: float | None, share: float) -> bool:
    """Whether so many accusers do it."""
    for angle in np.linspace(0.0, np.pi / 2, 7):
        # Accusers take their own honest part out of all sums, and add false ones.
        state = {name: array * (1 - share) if name in (FOUND, SHOWN) else array for name, array in model.state.items()}
        state[FOUND][row] -= share * devices * np.sqrt(1 / BLOCKS[FOUND]) * np.sin(angle)
        state[SHOWN][row] += share * devices * np.sqrt(LIST / BLOCKS[SHOWN]) * np.cos(angle)
        bent = replace(model, state=state)
        said = judgement(bent, devices=devices)
        if row not in {each.row for each in said.pushed}:
            continue
        if accusers is None or row in {each.row for each in proven(bent, said, accusers=accusers)}:
            return True
    return False
