"""`analytics`: weekly survey counts for the operator. They are clipped, noised, charged and sealed as training is.

The survey's questions take the place of the catalogue, a device's answers (each from 0 to 1) that of a history. Each
week has one release: the sums of the devices' answers plus noise. Nothing is rescaled, so the noise and every error bar
are known exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.interactions import Interactions
from palate_common.mechanism.update import DenseBlock, Update
from palate_common.survey import SURVEYING, Survey
from palate_core.errors import InputError
from palate_core.layout import BlockSpec, Layout

NAME = SURVEYING
TOTALS, NOISE = "totals", "noise"


class Analytics(Algorithm):
    """The sums of devices' answers to a survey.

    **Guarantees:** a device that lies has the same bound: its answers have L2 norm at most 1, whatever they are.
    **Guarantees:** a device that gives all it can is sent as it is: valid answers are never scaled down.
    """

    name = NAME
    Settings = Survey

    def __init__(self, settings: Survey, facts: PublicFacts) -> None:
        if facts.n_items != len(settings.questions()):
            raise InputError(f"`n_items` must be the survey's {len(settings.questions())} questions")
        self.survey, self.facts = settings, facts

    @property
    def shares(self) -> tuple[float, ...]:
        """The one release has the whole budget."""
        return (1.0,)

    def start(self) -> State:
        """Zero totals and zero noise."""
        return {name: np.zeros(self.facts.n_items) for name in (TOTALS, NOISE)}

    def layout(self, state: State, round_: int) -> Layout:
        """One block for each block of the survey, weighted by its share of the budget."""
        return tuple(
            BlockSpec(
                name=block.name, shape=(len(block.questions),), weight=float(np.sqrt(self.survey.share_of(block.name)))
            )
            for block in self.survey.blocks()
        )

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Each device's answers, divided by the norm of their block."""
        answers = np.zeros((histories.n_users, histories.n_items))
        answers[histories.owners(), histories.indices] = np.clip(histories.weights, 0.0, 1.0)
        blocks, first = [], 0
        for block in self.survey.blocks():
            part = answers[:, first : first + len(block.questions)] / block.norm
            # Valid answers have norm 1 at most; those of a device that breaks the rules are scaled down to it.
            norms = np.sqrt((part**2).sum(axis=1, keepdims=True))
            blocks.append(DenseBlock(part / np.maximum(norms, 1.0)))
            first += len(block.questions)
        return Update(tuple(blocks), histories.n_users)

    def release(
        self,
        state: State,
        round_: int,
        sums: Mapping[str, npt.NDArray[np.float64]],
        noise: Mapping[str, float],
    ) -> State:
        """Each question's noised total, in answers, and the standard deviation of its noise."""
        blocks = self.survey.blocks()
        totals = [sums[block.name] * block.norm for block in blocks]
        errors = [np.full(len(block.questions), noise[block.name] * block.norm) for block in blocks]
        return {TOTALS: np.concatenate(totals), NOISE: np.concatenate(errors)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Zeros: a survey ranks nothing."""
        return np.zeros((histories.n_users, histories.n_items))
