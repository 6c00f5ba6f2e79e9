"""Survey: the counts that a server asks of devices for one week, and the bound of each device's answers.

A device answers each question with a number from 0 to 1. Questions are grouped in blocks. Whatever its user did, a
device's answers in a block have at most the block's norm, so they are never scaled down: a release is the sum of the
answers plus noise. A block has a fixed share of the budget.

    >>> survey = Survey(first_day="2026-11-23", channels=("email",))
    >>> [block.name for block in survey.blocks()]
    ['active', 'reach', 'retention', 'delivery', 'satisfaction', 'online', 'control']
    >>> survey.questions()[:2]
    ('active:2026-11-23', 'active:2026-11-24')
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SURVEYING = "analytics"
"""Name of the algorithm whose settings are a survey."""
RETENTION_DAYS = (1, 7, 30)
MOST_SENT = 5
"""Most messages of one channel that are counted in one week."""
MOST_ITEMS = 5
"""Most watched items that one device answers for; of more it draws this many."""
MOST_BASKETS = 5
"""Most baskets that are counted in one week."""
MOST_INTERVAL = 90
"""Most days from one purchase to the next that are counted."""
MOST_MINUTES = 1260
"""Most minutes of plays that are counted in one week: three hours a day."""
FINISHED = 0.9
"""A play of this share of its item's length is a whole one."""
YEAR = 365
CHOSEN: Mapping[str, tuple[str, ...]] = {
    "conversion": ("saw", "converted", "bought"),
    "repurchase": ("customers", "repeated", "interval"),
    "spending": ("spent", "baskets", "revenue"),
    "watching": ("watched", "minutes", "played", "finished"),
}
"""Blocks that are asked where a survey names them, and their questions."""
OUTCOMES: Mapping[str, str] = {
    "days": "days",
    "conversion": "converted",
    "purchase": "bought",
    "repurchase": "repeated",
    "revenue": "revenue",
    "watch_minutes": "minutes",
    "completion": "finished",
}
"""What an A/B test may compare, and the answer that it is: `days` is those with a visit as a share of seven."""
_LAST_MONDAY = date.max - timedelta(days=13)
"""The latest Monday whose days, and the next week's, Python's dates can express."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}\z")]


def _monday(name: str, value: str) -> str:
    """Check that a value is a Monday, ISO 8601."""
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{name} must be a date, got {value!r}") from None
    if day.weekday() != 0 or day.isoformat() != value or day > _LAST_MONDAY:
        raise ValueError(f"{name} must be a Monday, got {value}")
    return value


@dataclass(frozen=True)
class Block:
    """Questions that share one bound and one share of the budget.

    Attributes:
        name: of the block.
        questions: in order.
        norm: largest L2 norm of one device's answers.
    """

    name: str
    questions: tuple[str, ...]
    norm: float


class Survey(BaseModel):
    """The questions of one week; public, in the signed plan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    first_day: str
    """The Monday on which the week begins, ISO 8601; days are those of each user's own calendar."""
    channels: tuple[Name, ...] = ()
    """Channels whose messages and answers are counted."""
    items: tuple[str, ...] = ()
    """Items whose users are counted, at most 200."""
    experiments: tuple[Name, ...] = ()
    """A/B tests that this week's answers are evaluated for."""
    looks: Mapping[Name, tuple[str, ...]] = Field(default_factory=dict)
    """A/B test -> the Mondays of all weeks after which it is evaluated, registered before the first evaluation. A test
    that isn't named is evaluated once, after this week."""
    outcomes: Mapping[Name, str] = Field(default_factory=dict)
    """A/B test -> what it compares, one of `OUTCOMES`; a test that isn't named compares days with a visit."""
    asks: tuple[str, ...] = ()
    """Blocks of `CHOSEN` that are asked."""
    most_spent: float = Field(default=100.0, gt=0)
    """Most money of one device that is counted in one week, in the app's currency."""
    shares: Mapping[str, float] = Field(default_factory=dict)
    """Shares of the budget by block; blocks that are not named share the rest equally."""

    @field_validator("first_day")
    @classmethod
    def _begins_a_week(cls, value: str) -> str:
        return _monday("first_day", value)

    @field_validator("looks")
    @classmethod
    def _are_weeks(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for name, weeks in value.items():
            if not 1 <= len(weeks) <= 52 or list(weeks) != sorted({_monday("looks", week) for week in weeks}):
                raise ValueError(f"looks must be 1 to 52 Mondays in order, got {', '.join(weeks) or 'none'} for {name}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Survey:
        for name in ("channels", "items", "experiments", "asks"):
            values = getattr(self, name)
            if len(set(values)) < len(values) or len(values) > 200:
                raise ValueError(f"{name} must be at most 200, each once")
        for name in self.experiments:
            if self.first_day not in self.looks_of(name):
                raise ValueError(f"looks of {name} must have {self.first_day}, got {', '.join(self.looks_of(name))}")
        for name, values, known in (("asks", self.asks, CHOSEN), ("outcomes", self.outcomes.values(), OUTCOMES)):
            if wrong := sorted(set(values) - set(known)):
                raise ValueError(f"{name} must be of {', '.join(known)}, got {wrong[0]}")
        blocks = {block.name for block in self.blocks()}
        unknown = sorted(set(self.shares) - blocks)
        if unknown:
            raise ValueError(f"shares must be of {', '.join(sorted(blocks))}, got {unknown[0]}")
        rest = 1.0 - sum(self.shares.values())
        whole = set(self.shares) == blocks
        if min(self.shares.values(), default=1.0) <= 0 or (abs(rest) > 1e-9 if whole else rest <= 1e-9):
            raise ValueError("shares must be positive, and leave something for each block that they do not name")
        return self

    @property
    def days(self) -> tuple[str, ...]:
        """The seven days."""
        first = date.fromisoformat(self.first_day)
        return tuple((first + timedelta(days=n)).isoformat() for n in range(7))

    def looks_of(self, experiment: str) -> tuple[str, ...]:
        """The Mondays of the weeks after which an A/B test is evaluated."""
        return self.looks.get(experiment, (self.first_day,))

    def blocks(self) -> tuple[Block, ...]:
        """The blocks, in order."""
        channels = [f"{what}:{name}" for name in self.channels for what in ("sent", "answered")]
        retention = [f"{what}:{n}" for n in RETENTION_DAYS for what in ("eligible", "exact", "after")]
        found = [
            Block("active", tuple(f"active:{day}" for day in self.days), math.sqrt(7)),
            Block("reach", ("week", "month"), math.sqrt(2)),
            # Day 1 and day 7 after one first day can fall into one week, and day 30 only without them.
            Block("retention", tuple(retention), math.sqrt(6)),
            Block("delivery", tuple(channels), math.sqrt(max(1, len(channels)))),
            Block("satisfaction", ("rated", "verdict"), math.sqrt(2)),
            Block("online", ("shown", "hr@10", "ndcg@10"), math.sqrt(3)),
            # A user is in one of the two groups.
            Block("control", ("control", "control_days", "treated", "treated_days"), math.sqrt(2)),
            Block("items", tuple(f"item:{item}" for item in self.items), math.sqrt(MOST_ITEMS)),
        ]
        found += [
            Block(name, questions, math.sqrt(len(questions))) for name, questions in CHOSEN.items() if name in self.asks
        ]
        for name in self.experiments:
            arms = [f"{what}:{name}:{arm}" for arm in "ab" for what in ("users", "outcome", "square")]
            found.append(Block(f"experiment:{name}", tuple(arms), math.sqrt(3)))  # a user is in one of the two arms
        return tuple(block for block in found if block.questions)

    def questions(self) -> tuple[str, ...]:
        """All questions in order: the catalogue of a survey."""
        return tuple(question for block in self.blocks() for question in block.questions)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Question -> its place in `questions`."""
        return {question: place for place, question in enumerate(self.questions())}

    def share_of(self, block: str) -> float:
        """The block's share of mu^2."""
        if block in self.shares:
            return self.shares[block]
        unnamed = [each.name for each in self.blocks() if each.name not in self.shares]
        return (1.0 - sum(self.shares.values())) / len(unnamed)
