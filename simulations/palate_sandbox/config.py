"""Configuration: what the people of a sandbox are assumed to be like, how the operator goes about it, and the switch.

Everything that a figure of the sandbox hangs on is a number here, with where its law is from; the numbers are choices.
A TOML file can change each of
them: `palate sandbox --assumptions FILE`. No number was fitted to people of Palate's: there are none yet.

>>> SandboxConfig().habits.position_bias
1.0
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_core.errors import InputError

Scenario = Literal["films", "shop", "news", "music"]
Policy = Literal["none", "popularity", "palate"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Habits(_Section):
    """What people are assumed to be like. They differ in taste, in how often they come, and in nothing else."""

    taste: float = Field(default=2.2, ge=0)
    """How much an item's appeal differs by who looks at it, against `appeal`, which is the same for all. Logistic
    choice: McFadden (1974)."""
    appeal: float = Field(default=1.0, ge=0)
    """How much items differ in an appeal that is the same for all."""
    reluctance: float = 1.8
    """Log odds against taking an item of middling appeal that one looks at."""
    position_bias: float = Field(default=1.0, ge=0)
    """The k-th item of a list is looked at with probability 1/k to this power: the position-based click model
    (Richardson et al. 2007; Craswell et al. 2008), with the power that Joachims et al. (2017) simulate."""
    page: int = Field(default=10, ge=1, le=50)
    """Items of a page."""
    another_page: float = Field(default=0.4, ge=0, lt=1)
    """Probability of a further page after each, so that lengths of visits are geometric, with three pages at most. The
    law of surfing (Huberman et al. 1998) has a longer tail."""
    most_taken: int = Field(default=3, ge=1)
    """Items that one visit has time for: a budget, as in RecSim (Ie et al. 2019)."""
    satiation: float = Field(default=0.6, ge=0)
    """By how much the log odds of a genre fall with each item of it that was taken: boredom (Kapoor et al. 2015)."""
    recovery_days: float = Field(default=4.0, gt=0)
    """Days after which half of the boredom is gone: it rebounds (Leqi et al. 2021)."""
    visit_rate: float = Field(default=0.28, gt=0, lt=1)
    """Mean probability of a day with a visit, at a satisfaction of one half. People's own are drawn from a beta law:
    the BG/BB model of days (Fader, Hardie and Shang 2010)."""
    visit_spread: float = Field(default=4.0, gt=0)
    """The sum of that law's parameters: the lower, the more people differ."""
    return_gain: float = Field(default=1.2, ge=0)
    """By how much the log odds of a visit rise with satisfaction, from 0 to 1: who found something comes back sooner
    (Kapoor et al. 2014; Wu et al. 2017)."""
    leaving: float = Field(default=0.035, ge=0, lt=1)
    """Probability of leaving for good after a visit, at a satisfaction of one half; after each visit anew, as in BG/NBD
    (Fader, Hardie and Lee 2005). Here it is the same for all."""
    leaving_relief: float = Field(default=3.0, ge=0)
    """By how much the logarithm of that probability falls with satisfaction, from 0 to 1 (Zou et al. 2019: users leave
    where what they see doesn't satisfy)."""
    memory: float = Field(default=0.25, gt=0, le=1)
    """Weight of the latest visit in satisfaction, an exponential average; it begins at one half."""
    enough: float = Field(default=0.6, gt=0, le=1)
    """Satisfaction of a visit in which one item was taken; each further one closes this part of what is left to 1."""
    verdict: float = Field(default=0.1, ge=0, le=1)
    """Probability that a visit in which something was taken ends with a verdict from 1 to 5."""
    erases: float = Field(default=0.1, ge=0, le=1)
    """Of those who leave: the share that erases the app's data. The others just don't come any more; their devices
    still answer."""
    had_before: float = Field(default=6.0, ge=0)
    """Items that people have had before they come, as a mean; a geometric law. Drawn by their taste and the items'
    appeal, one after the other (Luce 1959; Plackett 1975): no list has shown them. 0: people begin with nothing."""
    arrival_days: float = Field(default=6.0, gt=0, le=3650)
    """Mean of the day on which people first come, an exponential law."""
    train: float = Field(default=0.9, ge=0, le=1)
    """Share that agrees to training."""
    analytics: float = Field(default=0.9, ge=0, le=1)
    """Share that agrees to surveys. Who does is drawn apart from how loyal they are: a survey doesn't see a
    difference."""
    messages: float = Field(default=0.6, ge=0, le=1)
    """Share that allows notifications."""
    answers_message: float = Field(default=0.3, ge=0, le=1)
    """Probability that a message about an item that one would take is answered; an answer is a visit."""


class Cadence(_Section):
    """How the operator goes about it. Epsilon: unit user (one installation), adjacency zero-out."""

    epsilon: float = Field(default=2.0, gt=0)
    """Epsilon of one training run."""
    survey_epsilon: float = Field(default=1.0, gt=0)
    """Epsilon of one week's survey."""
    lifetime_epsilon: float = Field(default=8.0, gt=0, le=1e6)
    """Epsilon of everything."""
    delta: float = Field(default=1e-6, gt=0, lt=1)
    """The delta of all of them."""
    explore: float = Field(default=0.2, ge=0, le=1)
    """Share of the places of a list that are a chance choice, for hosted people, whatever the policy: without it
    neither counts nor models learn of what nobody has seen. People's own devices explore by themselves."""
    first_training: int = Field(default=5, ge=1)
    """The day before which the first run is trained."""
    every_days: int = Field(default=14, ge=1)
    """Days from one run to the next."""
    campaign_weekday: int = Field(default=2, ge=0, le=6)
    """Day of the week on which a campaign is offered, Monday being 0."""
    test_week: int = Field(default=4, ge=0, le=52)
    """The week, from 0, after which the A/B test `short-page` is looked at; arm B sees pages of half the length."""


class SandboxConfig(_Section):
    """A whole sandbox."""

    scenario: Scenario = "films"
    """What is offered."""
    items: int = Field(default=500, ge=60, le=20_000)
    """Items of the catalogue: the best known ones. Twice as many need more people before a private model knows them."""
    people: int = Field(default=100, ge=0, le=2000)
    """People with a whole device SDK and an encrypted store each."""
    crowd: int = Field(default=10_000, ge=0, le=200_000)
    """People who are hosted: the same behaviour, the same clipping and noise, no store."""
    days: int = Field(default=60, ge=1, le=365)
    """Days that they live."""
    seed: int = Field(default=0, ge=0)
    """Seed of all that people are and do; never of a release's noise."""
    policy: Policy = "palate"
    """What they are shown: a chance choice, what is taken most, or Palate's lists."""
    habits: Habits = Habits()
    operation: Cadence = Cadence()


def load(file: Path | None = None, given: Mapping[str, Any] | None = None) -> SandboxConfig:
    """A configuration: the defaults, changed by a TOML file, changed by what is given.

    Raises:
        InputError: the file can't be read, or a key or value isn't valid.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"`--assumptions` must be a readable file, got {file}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"`--assumptions` must be TOML, got {file}: {' '.join(str(error).split())}") from None
    try:
        made = SandboxConfig.model_validate(tree | dict(given or {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, got = ".".join(map(str, first["loc"])), f"{first['input']!r:.60}"
        said = first["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "must be left out: there is no such setting"
        raise InputError(f"`{where}` {said}, got {got}") from None
    if made.people + made.crowd < 40:
        raise InputError(
            f"`--people` and `--crowd` must be 40 together, or nobody is hidden, got {made.people + made.crowd}"
        )
    return made


def assumptions(config: SandboxConfig) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each number that is assumed, for the page and the docs."""
    for section in (config.habits, config.operation):
        for name, field in type(section).model_fields.items():
            yield name, f"{getattr(section, name):g}", " ".join((field.description or "").split())
