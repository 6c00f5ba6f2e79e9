"""`analytics`: counts for the operator, through the same door as training: clipped, noised, charged, sealed.

The catalogue is the survey's questions, and a history is a device's answers, each from 0 to 1. One release a week.
What is released is the capped statistic over the devices that answered: nothing is rescaled, so the noise is known
exactly, and with it every error bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from palate_common.algorithms.base import Algorithm, PublicFacts, State
from palate_common.errors import InputError
from palate_common.interactions import Interactions
from palate_common.mechanism.update import BlockSpec, DenseBlock, Layout, Update
from palate_common.survey import SURVEYING, Survey

NAME = SURVEYING
TOTALS, NOISE = "totals", "noise"


class Analytics(Algorithm):
    """The sums of devices' answers to a survey.

    Guarantees:
        A device's answers have L2 norm at most 1, whatever they are.
        Answers that a survey can have are sent as they are.
    """

    name = NAME
    Settings = Survey

    def __init__(self, settings: Survey, facts: PublicFacts) -> None:
        if facts.n_items != len(settings.questions()):
            raise InputError(f"`n_items` must be the survey's {len(settings.questions())} questions")
        self.survey, self.facts = settings, facts

    @property
    def shares(self) -> tuple[float, ...]:
        """One release takes all of the budget."""
        return (1.0,)

    def start(self) -> State:
        """Nothing is known yet."""
        return {name: np.zeros(self.facts.n_items) for name in (TOTALS, NOISE)}

    def layout(self, state: State, round_: int) -> Layout:
        """One block of the survey each, by its share of the budget."""
        return tuple(
            BlockSpec(
                name=block.name, shape=(len(block.questions),), weight=float(np.sqrt(self.survey.share_of(block.name)))
            )
            for block in self.survey.blocks()
        )

    def contribute(self, state: State, round_: int, histories: Interactions) -> Update:
        """Each device's answers, in parts of their block's norm."""
        answers = np.zeros((histories.n_users, histories.n_items))
        answers[histories.owners(), histories.indices] = np.clip(histories.weights, 0.0, 1.0)
        blocks, first = [], 0
        for block in self.survey.blocks():
            part = answers[:, first : first + len(block.questions)] / block.norm
            # A survey's answers stay below 1; others, of a device that doesn't keep to it, are cut to it.
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
        """Totals in answers, and the standard deviation of the noise in each."""
        blocks = self.survey.blocks()
        totals = [sums[block.name] * block.norm for block in blocks]
        errors = [np.full(len(block.questions), noise[block.name] * block.norm) for block in blocks]
        return {TOTALS: np.concatenate(totals), NOISE: np.concatenate(errors)}

    def scores(self, state: State, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Nothing is ranked: all alike."""
        return np.zeros((histories.n_users, histories.n_items))
