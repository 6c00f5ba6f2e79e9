"""Cells: one run and one attack on it, which is made by its name."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.poisoning.attacked_run import AttackedSetting, PoisoningAttack
from benchmarks.poisoning.crafted import Crafted
from benchmarks.poisoning.edge import Edge
from benchmarks.poisoning.published import PublishedAttack
from benchmarks.poisoning.shilling import Shilling
from benchmarks.poisoning.world import Goal
from palate_core.errors import InputError

ATTACKS = ("crafted", "shilling-bandwagon", "FedRecAttack")
"""The attacks that can be chosen."""
ONE = 1e-9
"""A share of attackers that is a single device in any population."""


@dataclass(frozen=True)
class Cell:
    """One run and one attack on it.

    Attributes:
        setting: of the run.
        goal: what is wanted.
        attack: one of `ATTACKS`.
    """

    setting: AttackedSetting
    goal: str
    attack: str


def make_attack(name: str, goal: Goal, seed: int) -> PoisoningAttack:
    """An attack by its name.

    Raises:
        InputError: there is none, or it has no such goal.
    """
    if name not in ATTACKS:
        raise InputError(f"`attack` must be among {', '.join(ATTACKS)}, got {name}")
    if name == "crafted":
        return Crafted(goal, seed)
    if name == "FedRecAttack":
        if goal.target < 0:
            raise InputError(f"`attack` {name} must have a goal with a target, got {goal.name}")
        return PublishedAttack(goal, seed)
    return Shilling(goal, seed)


def armed(cell: Cell, goal: Goal, seed: int) -> PoisoningAttack:
    """The attack of a cell, stretched to the edge where its setting says so."""
    attack = make_attack(cell.attack, goal, seed)
    return Edge(attack, goal, seed) if cell.setting.unclipped == "edge" else attack
