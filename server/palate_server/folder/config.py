"""The operator's configuration: one TOML file a server, every key documented, unknown ones refused.

>>> config = ServerConfig(population="readers", name="palate.example.org")
>>> config.cohort.size, config.privacy.dp.value
(100, 'distributed')
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate_common.errors import InputError
from palate_common.mechanism.clipping import CLIP_NORMS
from palate_common.rounds.plan import Noise
from palate_common.rounds.privacy_mode import DpMode, PrivacyMode, mode_of
from palate_common.survey import Survey
from palate_server.ledger.history import one_line

NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
"""A host name as TLS carries it (RFC 1123)."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrivacySettings(_Section):
    """What each run promises. Unit: user (one installation); adjacency: zero-out."""

    dp: DpMode = DpMode.DISTRIBUTED
    """Who adds the noise: each device, under masks, or the server ("central")."""
    noise: Noise = Noise.SECURE
    """"seeded" is for tests: release builds of the SDK refuse it."""
    epsilon: float = Field(default=2.0, gt=0, le=1e6)
    """Of one run, popularity included."""
    delta: float = Field(default=1e-6, gt=0, lt=1)
    lifetime_epsilon: float = Field(default=8.0, gt=0, le=1e6)
    """Of the population, over all runs for ever; it can only be lowered."""
    period_epsilon: float = Field(default=4.0, gt=0, le=1e6)
    """Of the runs that begin in one period."""
    period_days: int = Field(default=90, ge=1)
    corrupt: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of a cohort that may work for the server; at least one always may."""
    dropout: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of a cohort that may be lost, at least one device: how many more are invited than are needed."""
    clip_norm: float = Field(default=1.0, ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    grid: int | None = Field(default=None, ge=2**8, le=2**26)
    """Grid steps per clip norm; left out: what fits the cohort's sum into 32 bits."""

    @property
    def mode(self) -> PrivacyMode:
        """What follows from who adds the noise."""
        return mode_of(self.dp)


class TrainingSettings(_Section):
    """What learns, and how often."""

    algorithm: str = "als"
    settings: dict[str, Any] = Field(default_factory=dict)
    """The algorithm's own."""
    features: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*)?$")
    """Public item features: a NumPy file in the server folder, numbers [items, features], a row for each line of
    `items`. Empty: none."""
    every_hours: float = Field(default=720.0, ge=0)
    """From the end of one run to the start of the next."""
    warm_start: bool = True
    """Whether a run goes on from the latest release, where its algorithm can."""
    seed: int = Field(default=0, ge=0)
    """Of ties and public randomness; never of a release's noise."""


class SurveySettings(_Section):
    """What devices whose users agree to `analytics` are asked, about each week that is over."""

    weekly: bool = False
    """Whether there is a survey a week; each is charged to the population's ledger, as training is."""
    epsilon: float = Field(default=1.0, gt=0, le=1e6)
    """Of one; unit: user (one installation), adjacency: zero-out, at `privacy.delta`."""
    channels: list[str] = Field(default_factory=list)
    """Channels whose messages and answers are counted."""
    items: list[str] = Field(default_factory=list)
    """Items whose users are counted, at most 200."""
    experiments: dict[str, list[str]] = Field(default_factory=dict)
    """A/B test -> the Mondays of all the weeks after which it is looked at; the first survey registers them."""

    @model_validator(mode="after")
    def _makes_a_survey(self) -> Self:
        self.survey("2024-01-01", looked=False)
        return self

    def survey(self, week: str, *, looked: bool = True) -> Survey:
        """What is asked about a week; unless `looked`, without the tests that end with it.

        Raises:
            ValueError: nothing can be asked.
        """
        looks = {name: tuple(weeks) for name, weeks in self.experiments.items()}
        try:
            return Survey(
                first_day=week,
                channels=tuple(self.channels),
                items=tuple(self.items),
                experiments=tuple(name for name, weeks in looks.items() if looked and week in weeks),
                looks=looks,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "" if first["type"] == "value_error" else f"`{'.'.join(map(str, first['loc']))}` "
            reason = first["msg"].removeprefix("Value error, ").replace("String should", "must")
            got = "" if first["type"] == "value_error" else f", got {first['input']!r:.80}"
            raise ValueError(f"{where}{reason}{got}") from None


class CohortSettings(_Section):
    """Who takes part in an attempt, and how long it is waited for."""

    size: int = Field(default=100, ge=2)
    """Most devices in an attempt; the privacy terms say how many of them must remain."""
    wait_seconds: float = Field(default=1800.0, gt=0)
    """How long a cohort may take to gather before those who came are sent home."""
    exchange_seconds: float = Field(default=60.0, gt=0)
    """How long the answers to one exchange are waited for."""
    attempts: int = Field(default=3, ge=1)
    """Charged attempts at a round in a row, before a pause; each costs what is left of the run's budget."""
    pause_seconds: float = Field(default=3600.0, ge=0)
    """After a cohort that did not gather, or attempts that failed: when everybody is asked to come back."""
    participations: int = Field(default=100, ge=1)
    """Most attempts that a device is invited to in a period."""
    strikes: int = Field(default=2, ge=1)
    """Malformed answers after which a device is quarantined."""
    quarantine_days: float = Field(default=30.0, gt=0)
    plan_seconds: int = Field(default=3600, ge=1)
    """How long a plan may be answered."""


class EnrolmentSettings(_Section):
    """How devices get in."""

    token_hours: float = Field(default=168.0, gt=0)
    """How long an invitation is valid."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of one address at the gateway; the service behind it lets in ten times as many tokens, of all together."""


class ReleaseSettings(_Section):
    """When a finished run's model is published, and how long models are kept."""

    automatic: bool = True
    """Whether a model that passes the gates is published at once, or waits for `palate serve release`."""
    rounds: int = Field(default=1, ge=1)
    """Gate: the fewest released rounds."""
    signal: float = Field(default=0.0, ge=0)
    """Gate: the least signal that the released values show (see docs/operations.md)."""
    keep: int = Field(default=5, ge=1)
    """Published models that stay on the disk."""


class GatewaySettings(_Section):
    """What listens where. Everything but the gateway's own port is on the loopback interface."""

    listen: str = "0.0.0.0"  # noqa: S104 - the gateway is what faces the network
    port: int = Field(default=8443, ge=1, le=65535)
    superlink_port: int = Field(default=8444, ge=1, le=65535)
    enrolment_port: int = Field(default=8445, ge=1, le=65535)
    metrics_port: int = Field(default=8446, ge=1, le=65535)
    """`/metrics`, `/health` and `/ready`."""
    requests_per_second: int = Field(default=50, ge=1)
    """Of one address; twenty times as many in a burst."""
    connections: int = Field(default=200, ge=1)
    """Of one address at a time."""
    body_mib: int = Field(default=16, ge=1)
    """Largest request; it is held in memory until it is whole, `connections` of them at most for one address."""
    certificate: str = ""
    """PEM chain for `name`; empty: the folder's own authority issues it, and invitations carry that."""
    certificate_key: str = ""


class BackupSettings(_Section):
    """What outlives this machine."""

    witness: str = ""
    """A folder on another disk: each signed plan's charge is written there before the plan leaves, so that a restored
    ledger knows the highest spend that anybody has seen. Empty: `witness/` in the server folder, which dies with it."""


class ServerConfig(_Section):
    """Everything an operator decides."""

    population: str = Field(min_length=1, max_length=200)
    """Whose ledger this is; devices are built for one population."""
    name: str = "localhost"
    """The host name that devices connect to."""
    items: str = "items"
    """The catalogue: a file of item ids, one a line, public; relative to the server folder."""
    privacy: PrivacySettings = PrivacySettings()
    training: TrainingSettings = TrainingSettings()
    surveys: SurveySettings = SurveySettings()
    cohort: CohortSettings = CohortSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    release: ReleaseSettings = ReleaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    backup: BackupSettings = BackupSettings()

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name must be a host name in lower case, got {self.name!r:.80}")
        if not self.privacy.mode.private:
            raise ValueError('privacy.dp must be "distributed" or "central": a deployment has no run without privacy')
        if self.privacy.mode.cohort and self.privacy.dropout == 0:
            raise ValueError(
                "privacy.dropout must be above 0 with masks: one device that leaves would end every attempt"
            )
        if bool(self.gateway.certificate) != bool(self.gateway.certificate_key):
            raise ValueError("gateway.certificate and gateway.certificate_key are given together, or neither")
        ports = [self.gateway.port, self.gateway.superlink_port, self.gateway.enrolment_port, self.gateway.metrics_port]
        if len(set(ports)) < len(ports):
            raise ValueError(f"the gateway's ports must differ, got {ports}")
        return self


def read_config(path: Path) -> ServerConfig:
    """Read and check a configuration file.

    Raises:
        InputError: missing, not TOML, or a key that is unknown or out of range.
    """
    try:
        return parse_config(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(f"a server folder must have its {path.name}, got {path}: {error.strerror}") from None


def parse_config(data: bytes, name: str) -> ServerConfig:
    """Check a configuration; `name` is what errors call its file.

    Raises:
        InputError: not TOML, or a key that is unknown or out of range.
    """
    try:
        return ServerConfig.model_validate(tomllib.loads(data.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name} must be TOML, got an error: {error}") from None
    except ValidationError as error:
        section = ".".join(str(part) for part in error.errors()[0]["loc"][:-1])
        raise InputError(f"{name}{f', [{section}]' if section else ''}: {one_line(error)}") from None
