"""Cells: one run and one attack on it, which is made by its name."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.poisoning.attacked_run import AttackedSetting, PoisoningAttack
from benchmarks.poisoning.crafted import Crafted
from benchmarks.poisoning.edge import Edge
from benchmarks.poisoning.published import PublishedAttack
from benchmarks.poisoning.shilling import KINDS, HardSampling, Shilling
from benchmarks.poisoning.world import Goal
from palate_core.errors import InputError

ATTACKS = ("crafted", *(f"shilling-{kind}" for kind in KINDS), "PipAttack", "FedRecAttack", "A-hum", "FedAttack")
"""The attacks that can be chosen."""
TARGETED = ("PipAttack", "FedRecAttack", "A-hum")
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

    @property
    def run(self) -> str:
        """The run in words."""
        setting = self.setting
        masks = ", masks" if setting.masks else ""
        epsilon = "eps off" if setting.epsilon is None else f"eps {setting.epsilon:g}"
        return f"{setting.algorithm}, {setting.dp}{masks}, {epsilon}"


def make_attack(name: str, goal: Goal, seed: int) -> PoisoningAttack:
    """An attack by its name.

    Raises:
        InputError: there is none, or it has no such goal.
    """
    if name not in ATTACKS:
        raise InputError(f"`attack` must be among {', '.join(ATTACKS)}, got {name}")
    if name in TARGETED and goal.target < 0:
        raise InputError(f"`attack` {name} must have a goal with a target, got {goal.name}")
    if name in TARGETED:
        return PublishedAttack(name, goal, seed)
    if name == "FedAttack":
        return HardSampling(goal, seed)
    if name == "crafted":
        return Crafted(goal, seed)
    return Shilling(name.removeprefix("shilling-"), goal, seed)


def armed(cell: Cell, goal: Goal, seed: int) -> PoisoningAttack:
    """The attack of a cell, stretched to the edge where its setting says so."""
    attack = make_attack(cell.attack, goal, seed)
    return Edge(attack, goal, seed) if cell.setting.unclipped == "edge" else attack
