"""Surveys on the operator's page: each figure of a week with its error bar, and each look at an A/B test.

surveys/WEEK.json, if it is signed -> SurveyShown -> templates/sections/surveys.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate_core.errors import PalateError
from palate_server.console import charts
from palate_server.operation.survey_results import read_result

SHARES = {"stickiness", "churn", "retention", "retention_after", "ctr", "satisfaction", "hr@10", "ndcg@10"}
"""Figures from 0 to 1."""
NAMES = {
    "dau": "Active on the day", "wau": "Active in the week", "mau": "Active in 30 days", "stickiness": "Stickiness",
    "churn": "Not seen in the week", "retention": "Retention on", "retention_after": "Retention from",
    "ctr": "Messages answered", "satisfaction": "Satisfaction", "hr@10": "Hit rate, first ten",
    "ndcg@10": "NDCG, first ten", "lift": "Lift of messages", "item": "Users of",
}  # fmt: skip


@dataclass(frozen=True)
class FigureShown:
    """A figure of a survey, with its error bar."""

    name: str
    of: str
    text: str
    bounds: str
    definition: str
    image: Markup


@dataclass(frozen=True)
class TestShown:
    """One look at an A/B test."""

    name: str
    text: str
    bounds: str
    verdict: str
    look: str
    image: Markup | None


@dataclass(frozen=True)
class SurveyShown:
    """A week's survey: figures, names of those that too few devices are in, A/B tests, cost; or why it is `broken`."""

    week: str
    figures: tuple[FigureShown, ...]
    hushed: tuple[str, ...]
    tests: tuple[TestShown, ...]
    cost: Mapping[str, Any]
    broken: str = ""


def read_survey(path: Path, keys: Sequence[str]) -> SurveyShown:
    """A week's result, if it is signed by the release key or a former one."""
    data = path.read_bytes()
    for key in keys:
        try:
            found = read_result(data, public_key=key)
        except PalateError:
            continue
        told = [each for each in found["figures"] if each["value"] is not None]
        most = max((float(each["high"]) for each in told if not _is_share(each)), default=1.0)
        return SurveyShown(
            week=str(found["week"]),
            figures=tuple(_figure(each, most=most) for each in told),
            hushed=tuple(" ".join(_named(each)).strip() for each in found["figures"] if each["value"] is None),
            tests=tuple(_test(name, each) for name, each in found["tests"].items()),
            cost=found["cost"],
        )
    return SurveyShown(path.stem, (), (), (), {}, broken="the file isn't what was signed")


def _named(found: Mapping[str, Any]) -> tuple[str, str]:
    """A figure's name, and what it is of."""
    name, of = str(found["name"]), str(found["of"])
    return NAMES.get(name, name), f"day {of}" if name.startswith("retention") else of


def _is_share(found: Mapping[str, Any]) -> bool:
    """Whether a figure isn't a number of devices."""
    return found["name"] in SHARES or found["name"] == "lift"


def _figure(found: Mapping[str, Any], *, most: float) -> FigureShown:
    """A figure; numbers of devices share a scale up to `most`."""
    title, of = _named(found)
    value, low, high = (float(found[each]) for each in ("value", "low", "high"))
    if _is_share(found):
        scale, said = (0.0 if found["name"] in SHARES else -1.0, 1.0), "{:.1%}"
    else:
        scale, said = (0.0, max(most, 1.0) * 1.05), "{:,.0f}"
    bounds = f"{said.format(low)} to {said.format(high)}"
    label = f"{title} {of}: {said.format(value)}, 95 percent interval {bounds}"
    return FigureShown(
        title,
        of,
        said.format(value),
        bounds,
        str(found["definition"]),
        charts.interval(low, value, high, scale=scale, label=label),
    )


def _test(name: str, found: Mapping[str, Any]) -> TestShown:
    looks = list(found["looks"])
    look = f"{len(looks)} look{'' if len(looks) == 1 else 's'} registered: {', '.join(map(str, looks))}"
    result = found["found"]
    if result is None:
        return TestShown(name, "too few devices to say", "", "undecided", look, None)
    value, low, high = (float(result[each]) for each in ("difference", "low", "high"))
    reach = max(abs(low), abs(high), 0.01) * 1.1
    differ = not low <= 0 <= high
    verdict = ("B is better" if value > 0 else "A is better") if differ else "no difference shown"
    bounds = f"{low:+.3f} to {high:+.3f}, p = {float(result['p_value']):.3g}, at {float(result['confidence']):.1%}"
    label = f"B minus A: {value:+.3f}, interval {bounds}; {verdict}"
    return TestShown(
        name, f"{value:+.3f}", bounds, verdict, look,
        charts.interval(low, value, high, scale=(-reach, reach), label=label),
    )  # fmt: skip
