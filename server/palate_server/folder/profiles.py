"""Profiles: a few answers, and all settings that follow from them; each with its value, where it is from, and why.

    server.toml -> what it sets -> what its profile sets -> what follows from both -> what the profile insists on

A profile never loosens what an operator has set, and what it insists on can't be set looser beside it. Without a
profile nothing follows from anything: each key that is left out has its default.

>>> completed, told = complete({"population": "p", "profile": "public", "devices": 20_000})
>>> completed["cohort"]["size"], completed["privacy"]["lifetime_epsilon"]
(1000, 7.5)
>>> next(each.source for each in told if each.key == "cohort.size")
'derived'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from palate_core.accounting import epsilon_of, mu_of
from palate_core.errors import PalateError
from palate_core.privacy_mode import DpMode, mode_of

TRIAL: Final = "trial"
PILOT: Final = "pilot"
TRIAL_WORDS = "TRIAL: this server is only tried out, and what comes of it is not for the public"
"""What each status of a trial says, and `palate serve run` when it starts."""
YEAR = 365
"""Days of the period in which a profile's epsilon is spent."""
MOST_COHORT = 1000
"""Devices of the largest cohort that a rule chooses: 16 s of one core a round, see docs/operations.md."""
MOST_CONNECTIONS: Final = 65_535
"""The most connections of one address that nginx counts."""
DELTAS = (1e-8, 1e-6)
"""The least and the largest delta that a rule chooses."""


@dataclass(frozen=True)
class Profile:
    """What one profile sets, and what it insists on.

    Attributes:
        meaning: whom it is for, in a line.
        devices: the number of devices that is expected where nobody says.
        epsilon: epsilon of a year where nobody says; unit: user (one installation), adjacency: zero-out.
        years: years whose epsilons together are the lifetime's, in mu^2.
        runs: runs among which a year's epsilon is divided, in mu^2.
        every_hours: hours from the end of one run to the start of the next.
        share: a cohort is one of so many of the devices.
        least_cohort: the least size of a cohort.
        keep: published models that are kept.
        most: the most epsilon of a year and of the lifetime; None: any.
        outside: whether plans must be kept outside of the server folder.
        watched: whether the ledger must have a witness.
    """

    meaning: str
    devices: int
    epsilon: float
    years: int
    runs: int
    every_hours: float
    share: int
    least_cohort: int
    keep: int
    most: tuple[float, float] | None
    outside: bool
    watched: bool


PROFILES: Final = {
    TRIAL: Profile(
        meaning="to try it out: a handful of devices, a run a day, and TRIAL on everything that comes of it",
        devices=20, epsilon=8.0, years=1, runs=12, every_hours=24.0, share=1, least_cohort=5, keep=2,
        most=None, outside=False, watched=False,
    ),
    PILOT: Profile(
        meaning="5 to 500 people on one machine: masks on, a run a day for a month, small cohorts; it starts from a "
        "model made elsewhere, so that lists are personal on the first day",
        devices=20, epsilon=8.0, years=1, runs=30, every_hours=24.0, share=4, least_cohort=5, keep=5,
        most=(8.0, 8.0), outside=False, watched=False,
    ),
    "company": Profile(
        meaning="one's own staff or customers, who know the operator: the server sees sums alone, a run a month, "
        "signed plans kept elsewhere",
        devices=400, epsilon=6.0, years=3, runs=12, every_hours=730.0, share=4, least_cohort=25, keep=5,
        most=(8.0, 16.0), outside=True, watched=False,
    ),
    "public": Profile(
        meaning="anybody: as company, with less epsilon, larger cohorts, and a ledger that somebody else watches",
        devices=10_000, epsilon=4.0, years=3, runs=6, every_hours=1460.0, share=10, least_cohort=100, keep=10,
        most=(4.0, 8.0), outside=True, watched=True,
    ),
    "commons": Profile(
        meaning="people of many homes, by their own nodes and browsers: as public, with two runs a year of half the "
        "devices each, as few come, so that 1,000 are enough for taste",
        devices=1000, epsilon=5.0, years=3, runs=2, every_hours=4380.0, share=2, least_cohort=100, keep=10,
        most=(5.0, 10.0), outside=True, watched=True,
    ),
}  # fmt: skip

Get = Callable[[str], Any]
"""A function that returns a key's value, set or not."""


@dataclass(frozen=True)
class SettingInForce:
    """One setting.

    Attributes:
        key: its key, with its section.
        value: its value.
        source: "set", "profile", "derived" or "default".
        why: for "profile" and "derived", the reason.
    """

    key: str
    value: Any
    source: str
    why: str = ""


@dataclass(frozen=True)
class DerivedSetting:
    """How a setting follows from others.

    Attributes:
        key: its key.
        rule: the rule in words, which documents show.
        of: computes it; None: there is nothing that it could follow from.
        said: the rule with the numbers of this server; None: as `rule`.
    """

    key: str
    rule: str
    of: Callable[[Profile, Get], Any]
    said: Callable[[Profile, Get], str] | None = None


def _down(value: float) -> float:
    """Rounded down at two decimals, so that no rule spends more than it was given."""
    return math.floor(value * 100 + 1e-9) / 100


def _noise_delta(get: Get) -> float:
    """The part of delta that is for the noise."""
    return float(get("privacy.delta")) - mode_of(get("privacy.dp")).reserved_delta(None)


def _delta(_: Profile, get: Get) -> float:
    """One in ten times the devices, one digit of it."""
    wanted = 1 / (10 * int(get("devices")))
    digit = 10.0 ** math.floor(math.log10(wanted))
    return float(f"{min(max(math.floor(wanted / digit + 1e-9) * digit, DELTAS[0]), DELTAS[1]):.0e}")


def _divided(get: Get, factor: float) -> float:
    """The epsilon of so many periods' mu^2."""
    if factor == 1:
        return float(get("privacy.period_epsilon"))
    delta = _noise_delta(get)
    return _down(
        epsilon_of(mu=mu_of(epsilon=float(get("privacy.period_epsilon")), delta=delta) * math.sqrt(factor), delta=delta)
    )


def _size(profile: Profile, get: Get) -> int:
    return min(
        max(int(get("devices")) // profile.share, profile.least_cohort), MOST_COHORT if profile.share > 1 else 100
    )


def _next(places: int) -> Callable[[Profile, Get], int]:
    return lambda _, get: int(get("gateway.port")) + places


def _of_size(get: Get) -> str:
    return f"a cohort has {get('cohort.size')} devices"


RULES: Final = (
    DerivedSetting(
        "privacy.delta",
        "one in ten times `devices`, at most 1e-6 and at least 1e-8",
        _delta,
        lambda _, get: f"one in ten times the {get('devices'):,} devices, at most 1e-6 and at least 1e-8",
    ),
    DerivedSetting(
        "privacy.lifetime_epsilon",
        "the epsilon of the profile's years together: their mu^2 add up, epsilons don't",
        lambda profile, get: _divided(get, profile.years),
        lambda profile, get: (
            f"{profile.years} years of {get('privacy.period_epsilon'):g}, which add up in mu^2"
            if profile.years > 1
            else "the year's"
        ),
    ),
    DerivedSetting(
        "privacy.epsilon",
        "the period's mu^2 divided among the profile's runs a year",
        lambda profile, get: _divided(get, 1 / profile.runs),
        lambda profile, get: (
            f"{get('privacy.period_epsilon'):g} of the period divided among {profile.runs} runs, in mu^2"
        ),
    ),
    DerivedSetting(
        "cohort.size",
        "one in 4 of `devices` with pilot, at least 5, and with company, at least 25; one in 10 with public, and one "
        "in 2 with commons, at least 100; at most 1,000. With trial all of them, at most 100. So many come while a run "
        "waits for them",
        _size,
        lambda profile, get: (
            f"one in {profile.share} of the {get('devices'):,} devices, at least {profile.least_cohort} and at most "
            f"{MOST_COHORT}"
            if profile.share > 1
            else f"all {get('devices'):,} devices, at most 100"
        ),
    ),
    DerivedSetting(
        "cohort.plan_seconds",
        "an hour, or ten exchanges where those are longer: an attempt has seven",
        lambda _, get: max(3600, math.ceil(10 * float(get("cohort.exchange_seconds")))),
    ),
    DerivedSetting(
        "gateway.connections",
        f"200, or two for each device of a cohort, at most {MOST_CONNECTIONS:,}: all of them may come from one address",
        lambda _, get: min(max(200, 2 * int(get("cohort.size"))), MOST_CONNECTIONS),
        lambda _, get: (
            f"{_of_size(get)}, and all may come from one address with two connections each; at least 200, at most "
            f"{MOST_CONNECTIONS:,}"
        ),
    ),
    DerivedSetting(
        "gateway.requests_per_second",
        "50, or a fifth of a cohort: all of it may come from one address",
        lambda _, get: max(50, int(get("cohort.size")) // 5),
        lambda _, get: f"{_of_size(get)}, and all may come from one address; at least 50",
    ),
    DerivedSetting("gateway.superlink_port", "the port after the gateway's", _next(1)),
    DerivedSetting("gateway.metrics_port", "two after the gateway's", _next(2)),
    DerivedSetting(
        "witnesses.needed",
        "more than half of the witnesses",
        lambda _, get: len(get("witnesses.keys")) // 2 + 1 if get("witnesses.keys") else None,
        lambda _, get: f"more than half of {len(get('witnesses.keys'))}",
    ),
)  # fmt: skip
"""What follows from what, in the order in which it is computed."""


def settings_of(profile: Profile) -> dict[str, tuple[Any, str]]:
    """What a profile sets by itself: key -> value, and why."""
    return {
        "devices": (profile.devices, "what it expects where nobody says"),
        "privacy.dp": ("distributed", "devices add the noise, and nobody sees a contribution"),
        "privacy.noise": ("secure", "the operating system's randomness"),
        "privacy.corrupt": (0.1, "what devices insist on: a tenth of a cohort may work for the server"),
        "privacy.period_days": (YEAR, "its epsilon is a year's"),
        "privacy.period_epsilon": (profile.epsilon, "what it spends in a year where nobody says"),
        "training.every_hours": (profile.every_hours, f"{profile.runs} runs share a year's epsilon"),
        "release.keep": (profile.keep, "how far back one can go"),
    }


@dataclass(frozen=True)
class Held:
    """What a profile insists on: a bound that a setting may not be looser than.

    Attributes:
        key: the setting.
        is_kept: whether a value keeps it.
        words: what the setting must be, after "must be".
        why: the reason.
    """

    key: str
    is_kept: Callable[[Any], bool]
    words: str
    why: str


def bounds_of(name: str, devices: int) -> Iterator[Held]:
    """What a profile insists on, for so many devices; a trial on no more than masks need, and says that it is one.

    **Guarantees:** nothing is looser than a profile holds: such a configuration of `company` or `public` is refused.
    """
    profile = PROFILES[name]
    least = profile.least_cohort
    yield Held("devices", lambda value: value >= least, f"at least {least}", "a cohort is never smaller")
    if profile.most is None:
        return
    delta = float(_delta(profile, {"devices": devices}.__getitem__))
    year, lifetime = profile.most
    yield Held(
        "privacy.dp",
        lambda value: value in ("distributed", "local"),
        "distributed or local",
        "nobody sees a contribution without noise",
    )
    yield Held("privacy.noise", lambda value: value == "secure", "secure", "a seed can be guessed")
    yield Held("privacy.corrupt", lambda value: value >= 0.1, "at least 0.1", "devices insist on it")
    yield Held("privacy.delta", lambda value: value <= delta, f"at most {delta:g}", f"there are {devices:,} devices")
    yield Held("privacy.period_days", lambda value: value >= YEAR, f"at least {YEAR}", "its epsilon is a year's")
    yield Held("privacy.period_epsilon", lambda value: value <= year, f"at most {year:g}", "it is one user's, a year")
    yield Held("privacy.lifetime_epsilon", lambda value: value <= lifetime, f"at most {lifetime:g}", "it is for ever")
    yield Held("cohort.size", lambda value: value >= least, f"at least {least}", "each hides among the others")


def loosened(name: str, get: Get) -> str:
    """What is looser than a profile insists on, with the way out; empty if nothing is.

    Args:
        name: the profile.
        get: returns a key's value.
    """
    devices = get("devices")
    for bound in bounds_of(name, devices):
        value = get(bound.key)
        if not bound.is_kept(value):
            return (
                f"`{bound.key}` must be {bound.words} with the profile {name}, as {bound.why}, got {value}: "
                "change it, or leave `profile` out, set every key yourself, and tell your users"
            )
    if (size := get("cohort.size")) > devices:
        return f"`cohort.size` must be at most `devices`, {devices}, got {size}: none would gather"
    profile, parts = PROFILES[name], get("cohort.subcohorts")
    if profile.most is not None and size < parts * profile.least_cohort:
        return (
            f"`cohort.size` must be at least {profile.least_cohort} for each of {parts} sub-cohorts with the profile "
            f"{name}, as each hides among the others, got {size}"
        )
    return ""


def complete(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[SettingInForce]]:
    """Fill in what a configuration leaves to its profile.

    Args:
        raw: the configuration as it stands in its file, a dictionary of sections and keys.

    Returns:
        The configuration with all that follows, and for each of its keys where the value is from. Defaults aren't in
        it. Without a known profile it is as it was.

    Raises:
        ValueError: a value that a rule needs isn't one.
    """
    told = [SettingInForce(key, value, "set") for key, value in _leaves(raw)]
    name = raw.get("profile")
    if not isinstance(name, str) or name not in PROFILES:
        return dict(raw), told
    profile = PROFILES[name]
    known = {each.key: each.value for each in told}
    for key, (value, why) in settings_of(profile).items():
        if key not in known:
            told.append(SettingInForce(key, value, "profile", why))
            known[key] = value

    def get(key: str) -> Any:
        return _checked(key, known[key] if key in known else _DEFAULTS[key])

    try:
        for rule in RULES:
            if rule.key not in known and (value := rule.of(profile, get)) is not None:
                known[rule.key] = value
                why = rule.rule if rule.said is None else rule.said(profile, get)
                told.append(SettingInForce(rule.key, value, "derived", why))
    except PalateError as error:
        raise ValueError(str(error)) from None
    return _nested(raw, known), told


_DEFAULTS: Final[Mapping[str, Any]] = {
    "cohort.exchange_seconds": 60.0, "gateway.port": 8443, "witnesses.keys": (),
}  # fmt: skip
"""Defaults of keys that rules need and no profile sets; a test compares them with the configuration's."""


def _checked(key: str, value: Any) -> Any:
    """A value that a rule needs."""
    if key == "witnesses.keys":
        good, what = isinstance(value, list | tuple), "a list"
    elif key == "privacy.dp":
        good, what = value in set(DpMode), '"distributed" or "central"'
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e12
        what = "a number above 0"
        if good and key in ("devices", "cohort.size", "gateway.port"):
            good, what = isinstance(value, int), "a whole number above 0"
    if not good:
        raise ValueError(f"`{key}` must be {what}, got {value!r:.80}")
    return value


def _leaves(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key that is set, with its section; a section of the algorithm's settings or experiments is one value."""
    for key, value in raw.items():
        if isinstance(value, Mapping) and not prefix:
            yield from _leaves(value, f"{key}.")
        else:
            yield f"{prefix}{key}", value


def _nested(raw: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with all known values, as sections and keys."""
    made: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    for key, value in known.items():
        section, dot, name = key.rpartition(".")
        if not dot:
            made[name] = value
        elif isinstance(there := made.setdefault(section, {}), dict):
            there[name] = value
    return made
