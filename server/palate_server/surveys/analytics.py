"""Analytics: figures from one released survey, each with a definition and an error bar.

    GlobalModel of `analytics` (noised totals) -> Figure

A figure is suppressed if its group is too small, by the group's noised count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from palate_common.algorithms.analytics import NAME, NOISE, TOTALS
from palate_common.models.model import GlobalModel
from palate_common.survey import (
    FINISHED,
    MOST_BASKETS,
    MOST_INTERVAL,
    MOST_MINUTES,
    MOST_SENT,
    RETENTION_DAYS,
    Survey,
)
from palate_core.accounting import epsilon_of
from palate_core.errors import InputError
from palate_server.surveys.intervals import CONFIDENCE, Arm, Comparison, Noised, compare, ratio_interval

LEAST = 20.0
"""The least noised count of a group; the count must also be at least four times its noise."""
WEEKS = 52

DEFINITIONS: Mapping[str, str] = {
    "dau": "devices with a visit on that calendar day of their users'. It protects which days, not that one takes part",
    "wau": "devices with a visit in the week",
    "mau": "devices with a visit in the 30 days that end with the week",
    "stickiness": "mean of the week's DAU, divided by MAU",
    "churn": "of devices with a visit in the 30 days: those without one in the week. Some come back later",
    "retention": "of devices whose n-th calendar day after the first visit's was in the week: those with a visit on it",
    "retention_after": "the same: those with a visit on it or later, as far as the week goes",
    "ctr": f"answered messages over those the channel brought, no transactional ones; {MOST_SENT} a device and week",
    "satisfaction": "mean of the devices' mean verdicts, 1 to 5 as 0 to 1, over devices that gave any",
    "hr@10": "mean over devices of the share of their lists of recommendations in whose first ten they took something",
    "ndcg@10": "mean over devices of the NDCG of the first ten of their lists, what they took being relevant",
    "lift": "active days in the week as a share of seven: mean of devices that get messages, less that of the held-out",
    "conversion": "look-to-buy rate: of devices that saw recommendations in the week: those that then bought one in it",
    "purchase_rate": "visitor conversion rate: devices with a purchase in the week, divided by WAU",
    "repeat_rate": "repeat purchase rate: of devices with a purchase in 365 days: those with such days, two or more",
    "repeat_days": f"inter-purchase time: mean over those of the mean days between such days; at most {MOST_INTERVAL}",
    "revenue": "net sales: amounts of the week's purchases, less what was paid back; a device's up to `most_spent`",
    "revenue_per_buyer": "ARPPU: the same, divided by the devices that bought for an amount",
    "basket": f"average order value: the same, divided by visits with a purchase; at most {MOST_BASKETS} a device",
    "watch_minutes": f"watch time: mean minutes played in the week where any were; at most {MOST_MINUTES:,} a device",
    "completion": f"completion rate: mean over devices of the share of plays over {FINISHED:.0%} of their `length`",
    "item": "devices whose user did something with the item in the week; a device answers for five items at most",
}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: `dau`, `ctr`, ..., see `DEFINITIONS`.
        of: the day, channel, number of days or item; empty for the whole population.
        value: its value; None if it is suppressed.
        low: lower end of its interval.
        high: upper end of its interval.
    """

    name: str
    of: str
    value: float | None
    low: float | None
    high: float | None

    @property
    def suppressed(self) -> bool:
        """Whether its group is too small."""
        return self.value is None


@dataclass(frozen=True)
class Cost:
    """The cost of a week's survey for each device that answers, and of a year of them.

    Unit: one installation; adjacency: zero-out; accountant: the closed form of Gaussian differential privacy.

    Attributes:
        epsilon: epsilon of one survey.
        yearly: epsilon of 52 surveys.
        delta: delta of both.
    """

    epsilon: float
    yearly: float
    delta: float


def figures(model: GlobalModel, *, confidence: float = CONFIDENCE) -> tuple[Figure, ...]:
    """Compute all figures of a released survey.

    Raises:
        InputError: the model isn't a survey's.
    """
    answers = _Answers.of(model)
    return tuple(_figures(answers, confidence))


def comparisons(model: GlobalModel, *, confidence: float = CONFIDENCE) -> dict[str, Comparison | None]:
    """The result of each A/B test of a released survey; None if an arm is too small.

    Args:
        model: the released survey, which is one look. If a test was registered with k looks, each has the k-th part of
            the error probability (Bonferroni).
        confidence: confidence of all looks of a test together.
    """
    answers, found = _Answers.of(model), dict[str, Comparison | None]()
    for name in answers.survey.experiments:
        arms = [
            Arm(*(answers.of_question(f"{what}:{name}:{arm}") for what in ("users", "outcome", "square")))
            for arm in "ab"
        ]
        each = 1.0 - (1.0 - confidence) / len(answers.survey.looks_of(name))
        units = {"revenue": answers.survey.most_spent, "watch_minutes": MOST_MINUTES}
        unit = units.get(answers.survey.outcomes.get(name, ""), 1.0)
        found[name] = compare(*arms, confidence=each, unit=unit) if all(_told(arm.users) for arm in arms) else None
    return found


def cost(*, mu: float, delta: float) -> Cost:
    """The cost of one survey at `delta`, and of 52: mu grows with the root of their number."""
    return Cost(epsilon_of(mu=mu, delta=delta), epsilon_of(mu=mu * math.sqrt(WEEKS), delta=delta), delta)


@dataclass(frozen=True)
class _Answers:
    """The noised totals of a released survey, by question."""

    survey: Survey
    model: GlobalModel

    @classmethod
    def of(cls, model: GlobalModel) -> _Answers:
        """The totals of a released survey."""
        if model.header.algorithm != NAME or model.header.releases != 1:
            raise InputError(f"`model` must be a released survey, got {model.header.algorithm!r}")
        return cls(Survey.model_validate(model.header.settings), model)

    def of_question(self, question: str) -> Noised:
        """The total of a question."""
        place = self.survey.places[question]
        return Noised(float(self.model.state[TOTALS][place]), float(self.model.state[NOISE][place]))


def _figures(answers: _Answers, confidence: float) -> Iterator[Figure]:
    survey, ask = answers.survey, answers.of_question
    days = [ask(f"active:{day}") for day in survey.days]
    for day, count in zip(survey.days, days, strict=True):
        yield _count("dau", day, count, confidence)
    yield _count("wau", "", ask("week"), confidence)
    yield _count("mau", "", ask("month"), confidence)
    mean = Noised(sum(each.value for each in days) / 7, math.sqrt(sum(each.noise**2 for each in days)) / 7)
    yield _ratio("stickiness", "", mean, ask("month"), confidence)
    yield _rest(_ratio("churn", "", ask("week"), ask("month"), confidence))
    for n in RETENTION_DAYS:
        yield _ratio("retention", str(n), ask(f"exact:{n}"), ask(f"eligible:{n}"), confidence)
        yield _ratio("retention_after", str(n), ask(f"after:{n}"), ask(f"eligible:{n}"), confidence)
    for channel in survey.channels:
        yield _ratio("ctr", channel, ask(f"answered:{channel}"), ask(f"sent:{channel}"), confidence)
    yield _ratio("satisfaction", "", ask("verdict"), ask("rated"), confidence)
    for metric in ("hr@10", "ndcg@10"):
        yield _ratio(metric, "", ask(metric), ask("shown"), confidence)
    yield _lift(answers, confidence)
    for name, (part, whole, most, unit) in _ratios(survey).items():
        if {part, whole} <= survey.places.keys():
            yield _ratio(name, "", ask(part), ask(whole), confidence, most=most, unit=unit)
    if "spending" in survey.asks:
        yield _count("revenue", "", ask("revenue") * survey.most_spent, confidence, group=ask("spent"))
    for item in survey.items:
        yield _count("item", item, ask(f"item:{item}"), confidence)


def _ratios(survey: Survey) -> dict[str, tuple[str, str, float, float]]:
    """Figure of a chosen block -> the questions of its parts, the largest ratio of these, and the unit of that."""
    spent = survey.most_spent
    return {
        "conversion": ("converted", "saw", 1.0, 1.0),
        "purchase_rate": ("bought", "week", 1.0, 1.0),
        "repeat_rate": ("repeated", "customers", 1.0, 1.0),
        "repeat_days": ("interval", "repeated", 1.0, MOST_INTERVAL),
        "revenue_per_buyer": ("revenue", "spent", 1.0, spent),
        "basket": ("revenue", "baskets", MOST_BASKETS, spent / MOST_BASKETS),
        "watch_minutes": ("minutes", "watched", 1.0, MOST_MINUTES),
        "completion": ("finished", "played", 1.0, 1.0),
    }


def _told(count: Noised) -> bool:
    """Whether a group is large enough to be shown, by its noised count."""
    return count.value >= max(LEAST, 4 * count.noise)


def _count(name: str, of: str, count: Noised, confidence: float, *, group: Noised | None = None) -> Figure:
    if not _told(group or count):
        return Figure(name, of, None, None, None)
    return Figure(name, of, *(max(each, 0.0) for each in (count.value, *count.interval(confidence=confidence))))


def _ratio(
    name: str, of: str, part: Noised, whole: Noised, confidence: float, *, most: float = 1.0, unit: float = 1.0
) -> Figure:
    """A ratio of at most `most`, in a unit."""
    if not _told(whole):
        return Figure(name, of, None, None, None)
    low, high = ratio_interval(part, whole, confidence=confidence)
    return Figure(name, of, *(unit * min(max(each, 0.0), most) for each in (part.value / whole.value, low, high)))


def _rest(share: Figure) -> Figure:
    """What a share leaves to 1."""
    if share.value is None or share.low is None or share.high is None:
        return share
    return replace(share, value=1.0 - share.value, low=1.0 - share.high, high=1.0 - share.low)


def _lift(answers: _Answers, confidence: float) -> Figure:
    """The effect of messages: the difference of two random groups, with its sampling error."""
    groups = [(answers.of_question(group), answers.of_question(f"{group}_days")) for group in ("control", "treated")]
    if not all(_told(users) for users, _ in groups):
        return Figure("lift", "", None, None, None)
    # Squares of numbers from 0 to 1 sum to at most the sum of the numbers, which bounds the variance from above.
    found = compare(*(Arm(users, days, days) for users, days in groups), confidence=confidence)
    return Figure("lift", "", *(min(max(each, -1.0), 1.0) for each in (found.difference, found.low, found.high)))
