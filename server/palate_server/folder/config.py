"""The operator's configuration: one TOML file per server; every key is documented, and unknown ones are refused.

>>> config = ServerConfig(population="readers", name="palate.example.org")
>>> config.cohort.size, config.privacy.dp.value
(100, 'distributed')
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from palate_common.survey import Survey
from palate_core.cohort_terms import MAX_SUBCOHORTS
from palate_core.errors import InputError
from palate_core.layout import CLIP_NORMS
from palate_core.log.cosignatures import Quorum
from palate_core.log.notes import VerifierKey
from palate_core.plan import Noise
from palate_core.privacy_mode import DpMode, PrivacyMode, mode_of
from palate_server.folder.certificates import pair_of
from palate_server.folder.profiles import MOST_CONNECTIONS, PROFILES, TRIAL, SettingInForce, complete, loosened
from palate_server.ledger.history import one_line

if TYPE_CHECKING:
    from palate_server.ledger.cosigning import WitnessAddress

NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
"""A host name in TLS (RFC 1123)."""
FOLDER_NAME = "[a-z0-9][a-z0-9-]{0,62}"
"""Name of a population's place in the gateway's paths."""
MOST_PORT = 65535
ORIGIN = re.compile(
    r"https://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[1-9][0-9]{0,4})?|http://localhost(:[1-9][0-9]{0,4})?", re.ASCII
)
"""An origin of web pages, as browsers spell it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PrivacySettings(_Section):
    """Privacy guarantees of each run. Unit: user (one installation); adjacency: zero-out."""

    dp: DpMode = DpMode.DISTRIBUTED
    """Who adds the noise: the devices, with secure aggregation ("distributed"), or the server ("central")."""
    noise: Noise = Noise.SECURE
    """"seeded" is for tests: release builds of the SDK refuse it."""
    epsilon: float = Field(default=2.0, gt=0, le=1e6)
    """Epsilon of one run, popularity included; unit: user, adjacency: zero-out."""
    delta: float = Field(default=1e-6, gt=0, lt=1)
    """The delta of every epsilon here."""
    lifetime_epsilon: float = Field(default=8.0, gt=0, le=1e6)
    """Epsilon of the population, over all runs for ever; it can only be lowered."""
    period_epsilon: float = Field(default=4.0, gt=0, le=1e6)
    """Epsilon of all runs that begin in one period."""
    period_days: int = Field(default=90, ge=1)
    """Length of a period, in days."""
    corrupt: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of a cohort's devices that may be corrupt, that is, work for the server; at least one device."""
    dropout: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of a cohort's devices that may drop out, at least one device: as many more are invited than are needed;
    above 0 with masks."""
    clip_norm: float = Field(default=1.0, ge=CLIP_NORMS[0], le=CLIP_NORMS[1])
    """The L2 norm to which a user's contribution is clipped."""
    grid: int | None = Field(default=None, ge=2**8, le=2**26)
    """Grid steps per clip norm; left out: as many as fit the cohort's sum into 32 bits."""

    @property
    def mode(self) -> PrivacyMode:
        """The privacy mode of `dp`."""
        return mode_of(self.dp)


class TrainingSettings(_Section):
    """The algorithm, and how often it is trained."""

    algorithm: str = "als"
    """Name of the algorithm."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The algorithm's settings."""
    features: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*)?$")
    """Public item features, which cost no privacy: a NumPy file in the server folder, numbers [items, features], one
    row per line of `items`. Empty: none."""
    every_hours: float = Field(default=720.0, ge=0)
    """Hours from the end of one run to the start of the next."""
    warm_start: bool = True
    """Whether a run starts from the latest release, if its algorithm can."""
    seed: int = Field(default=0, ge=0)
    """Seed of ties and public randomness; never of a release's noise."""


class SurveySettings(_Section):
    """Surveys of devices whose users agree to `analytics`, about each week that is over."""

    weekly: bool = False
    """Whether there is a weekly survey, see docs/loyalty.md#asking-them; each is charged to the population's ledger,
    like training."""
    epsilon: float = Field(default=1.0, gt=0, le=1e6)
    """Epsilon of one survey; unit: user (one installation), adjacency: zero-out, at `privacy.delta`."""
    channels: list[str] = Field(default_factory=list)
    """Channels whose messages and reactions are counted."""
    items: list[str] = Field(default_factory=list)
    """Items whose users are counted, at most 200."""
    experiments: dict[str, list[str]] = Field(default_factory=dict)
    """A/B test -> the Mondays of all the weeks after which it is looked at; the first survey registers them."""
    outcomes: dict[str, str] = Field(default_factory=dict)
    """A/B test -> what it compares: days (with a visit, the default), conversion, purchase, repurchase, revenue,
    watch_minutes or completion."""
    asks: list[str] = Field(default_factory=list)
    """What else is asked: conversion, repurchase, spending, watching; each takes a share of epsilon."""
    most_spent: float = Field(default=100.0, gt=0)
    """Most money of one device that is counted in a week, in the app's currency: the noise grows with it."""

    @model_validator(mode="after")
    def _makes_a_survey(self) -> Self:
        self.survey("2024-01-01", looked=False)
        return self

    def survey(self, week: str, *, looked: bool = True) -> Survey:
        """The survey about a week; unless `looked`, without the tests that end with it.

        Raises:
            ValueError: the settings make no valid survey.
        """
        looks = {name: tuple(weeks) for name, weeks in self.experiments.items()}
        try:
            return Survey(
                first_day=week,
                channels=tuple(self.channels),
                items=tuple(self.items),
                experiments=tuple(name for name, weeks in looks.items() if looked and week in weeks),
                looks=looks,
                outcomes=self.outcomes,
                asks=tuple(self.asks),
                most_spent=self.most_spent,
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "" if first["type"] == "value_error" else f"`{'.'.join(map(str, first['loc']))}` "
            reason = first["msg"].removeprefix("Value error, ").replace("String should", "must")
            got = "" if first["type"] == "value_error" else f", got {first['input']!r:.80}"
            raise ValueError(f"{where}{reason}{got}") from None


SECONDS_A_DEVICE = 0.015
"""What an exchange costs a server's processes for each device, six times over; see docs/benchmarks.md#serve."""


class CohortSettings(_Section):
    """Who takes part in an attempt, and how long the server waits."""

    size: int = Field(default=100, ge=2)
    """The most devices in an attempt; the privacy terms say how many of them must remain. With fewer than 25, or a
    `privacy.corrupt` below 0.1, devices refuse unless their app says `for_few`: docs/sdk-rounds.md#models."""
    subcohorts: int = Field(default=1, ge=1, le=MAX_SUBCOHORTS)
    """Into how many sub-cohorts they are split, by chance: each is an aggregation of its own with all of the noise, so
    that a device is sent a part of the bytes, and the noise of all together has so many times the variance; see
    docs/secure-aggregation.md#sub-cohorts."""
    wait_seconds: float = Field(default=1800.0, gt=0)
    """Seconds that a cohort may take to gather; after that its devices are sent home."""
    exchange_seconds: float = Field(default=60.0, gt=0)
    """The least number of seconds to wait for the answers of one exchange; above 4,000 devices it is 15 ms for each.
    Devices that stay for less, and 10 s more, aren't invited."""
    attempts: int = Field(default=3, ge=1)
    """Charged attempts in a row without a release, after which training stops and asks you; each costs what is left of
    the run's budget."""
    pause_seconds: float = Field(default=3600.0, ge=0)
    """Seconds that all devices are sent home after a cohort that did not gather, or a charge without a release, when it
    doubles."""
    participations: int = Field(default=100, ge=1)
    """The most attempts that a device is invited to in a period."""
    strikes: int = Field(default=2, ge=1)
    """Without masks: malformed answers after which a device is quarantined. Under masks it takes evidence."""
    quarantine_days: float = Field(default=30.0, gt=0)
    """Days of a quarantine."""
    plan_seconds: int = Field(default=3600, ge=1)
    """Seconds in which a plan may be answered."""

    def seconds_of_exchange(self, devices: int) -> float:
        """Seconds to wait for the answers of so many devices."""
        return max(self.exchange_seconds, SECONDS_A_DEVICE * devices)


class EnrolmentSettings(_Section):
    """How devices enrol."""

    token_hours: float = Field(default=168.0, gt=0)
    """Hours that an invitation is valid."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Requests of one address at the gateway; the service behind it allows ten times as many tokens in all."""


class ReleaseSettings(_Section):
    """When a finished run's model is published, and how long models are kept."""

    automatic: bool = True
    """Whether a model that passes the gates is published at once; if not, by `palate serve release`."""
    rounds: int = Field(default=1, ge=1)
    """Gate: the least number of released rounds."""
    signal: float = Field(default=0.0, ge=0)
    """Gate: the least signal in the released values, see docs/operations.md#models."""
    keep: int = Field(default=5, ge=1)
    """Number of published models that are kept on the disk."""
    recent_half_life_days: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """When devices recommend by the model, an event loses half its weight, against others, for each of these many days;
    0: it doesn't. `palate simulate` chooses it on a log, see docs/runs.md#recent-events."""


class GatewaySettings(_Section):
    """Addresses and ports. All ports but the gateway's own are on the loopback interface, but for edges elsewhere."""

    listen: str = "0.0.0.0"  # noqa: S104 - the gateway is what faces the network
    """Address on which the gateway listens."""
    port: int = Field(default=8443, ge=1, le=65535)
    """Port of the gateway."""
    path: str = Field(default="", pattern=rf"^(/p/{FOLDER_NAME})?$")
    """What each request's path begins with, `/p/NAME`, by which a reverse proxy tells populations apart, see
    docs/operations.md#several-populations. Invitations contain it; devices that are enrolled keep theirs."""
    link: Literal["flower", "direct"] = "flower"
    """What carries messages between the ServerApp and the edge, where devices wait: Flower's SuperLink, or, on one
    machine, a socket."""
    superlink_port: int = Field(default=8444, ge=1, le=65535)
    """Port of Flower's SuperLink."""
    superlink_listen: str = "127.0.0.1"
    """Address on which Flower's SuperLink listens: one on a private network, where edges are on other hosts, see
    docs/edges.md."""
    metrics_port: int = Field(default=8445, ge=1, le=65535)
    """Port of `/metrics`, `/health` and `/ready`, on the loopback interface."""
    requests_per_second: int = Field(default=50, ge=1)
    """Requests per second of one address; twenty times as many in a burst."""
    connections: int = Field(default=200, ge=1, le=MOST_CONNECTIONS)
    """Simultaneous connections of one address."""
    body_mib: int = Field(default=16, ge=1)
    """Largest request, in MiB."""
    certificate: str = ""
    """PEM chain for `name`, its authority last; empty: the folder's own authority issues it, and invitations contain
    that authority."""
    certificate_key: str = ""
    """The certificate's private key."""
    acme_port: int = Field(default=0, ge=0, le=65535)
    """Port on which the gateway answers an ACME authority, 80 as seen from outside, with what an ACME client puts into
    `public`: docs/setup.md#a-public-certificate. The certificate is then the one that `palate serve certificate`
    installs. 0: none."""
    origins: list[str] = Field(default_factory=list, max_length=64)
    """Origins of web pages whose browsers may take part, such as `https://shop.example`. Empty: no page may."""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"an origin must be https://NAME or https://NAME:PORT in lower case, got {origin!r:.80}"
                )
        return value

    @property
    def pair(self) -> tuple[str, str]:
        """Files of the certificate and its key, relative to the server folder."""
        return pair_of(self.certificate, self.certificate_key, acme=self.acme_port > 0)

    @property
    def loopback_ports(self) -> list[int]:
        """All ports on the loopback interface."""
        return [*([self.superlink_port] if self.link == "flower" else []), self.metrics_port]


class BackupSettings(_Section):
    """What survives the loss of this machine."""

    witness: str = ""
    """A folder on another disk: each signed plan with its charge is written there before it is sent, so that a
    restored ledger knows the highest spend that anybody has seen. Empty: `witness/` in the server folder, which is
    lost with it."""


class Elsewhere(_Section):
    """An address of its own, where whoever has the token is answered."""

    address: str = ""
    """`HOST:PORT` on a private network, for example `10.0.0.5:9464`. Empty: there is none."""
    token: str = ""
    """File with the token, at least 32 characters in one line, mode 0600, the server's account's or root's; relative to
    the server folder."""
    certificate: str = ""
    """PEM chain for TLS at that address; empty: plain HTTP, for a private network alone."""
    certificate_key: str = ""
    """The certificate's private key."""

    @model_validator(mode="after")
    def _has_a_token(self) -> Self:
        if bool(self.address) != bool(self.token):
            raise ValueError(
                "address and token are given together, or neither: nobody reads metrics from elsewhere without a token"
            )
        if bool(self.certificate) != bool(self.certificate_key):
            raise ValueError("certificate and certificate_key are given together, or neither")
        if self.certificate and not self.address:
            raise ValueError("certificate must be left out without an address")
        if self.address:
            self.place()
        return self

    def place(self) -> tuple[str, int]:
        """Host and port of `address`.

        Raises:
            ValueError: it isn't of that form.
        """
        host, colon, port = self.address.rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and 1 <= int(port) <= MOST_PORT and host):
            raise ValueError(f"address must be HOST:PORT, such as 10.0.0.5:9464, got {self.address!r:.80}")
        return host, int(port)


class MetricsSettings(Elsewhere):
    """Metrics and health for other machines, beside `gateway.metrics_port`, which is on the loopback interface."""


class InvitationSettings(Elsewhere):
    """Invitations for a company's own service, see docs/operations.md#a-login-of-your-own."""

    per_minute: int = Field(default=60, ge=1)
    """The most invitations in a minute."""


class LogSettings(_Section):
    """How much of what the processes say is kept in `logs/`, each part in a file of its own."""

    mib: int = Field(default=16, ge=1)
    """MiB of a file above which it is renamed to `PART.1.log`."""
    keep: int = Field(default=3, ge=0)
    """Number of former files of a part."""


class ProblemSettings(_Section):
    """From when on something is a problem that the operator is told of, see docs/server.md#problems."""

    certificate_days: int = Field(default=21, ge=0)
    """Days before the end of a certificate."""
    disk_mib: int = Field(default=1024, ge=0)
    """MiB that must be left on the disks of the server folder and of `backup.witness`."""
    backup_hours: float = Field(default=48.0, ge=0)
    """Age of the latest backup, where something has changed since; 0: backups aren't looked at."""


class WitnessSettings(_Section):
    """Who cosigns the ledger, so that nobody has to take the operator's word for it."""

    keys: list[str] = Field(default_factory=list)
    """Verifier keys of the witnesses, as `palate witness init` prints them, which apps pin. Empty: there are none."""
    urls: list[str] = Field(default_factory=list)
    """Where each of them is asked, in the same order: `https://...`, to which `/add-checkpoint` is added."""
    needed: int = Field(default=1, ge=1)
    """How many of them must have cosigned a charge before its plan is sent, and a model before it is published."""
    seconds: float = Field(default=5.0, gt=0, le=300)
    """How long the witnesses may take together. They are asked before each charge whether enough of them are there, so
    that one that is down costs no charge."""

    @model_validator(mode="after")
    def _makes_a_quorum(self) -> Self:
        if len(self.keys) != len(self.urls):
            raise ValueError(f"keys and urls must be as many, got {len(self.keys)} and {len(self.urls)}")
        try:
            if self.keys:
                Quorum.of(self.keys, self.needed)
                self.addresses()
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    def addresses(self) -> list[WitnessAddress]:
        """The witnesses, and where each is asked.

        Raises:
            InputError: a key or an address is malformed.
        """
        from palate_server.ledger.cosigning import WitnessAddress  # loads an HTTP client

        return [WitnessAddress(VerifierKey.read(key), url) for key, url in zip(self.keys, self.urls, strict=True)]


class ServerConfig(_Section):
    """All settings of an operator."""

    population: str = Field(min_length=1, max_length=200)
    """Name of the population; an app is built for one population."""
    profile: Literal["trial", "pilot", "company", "public", "commons"] | None = None
    """What all keys that are left out follow from, and what no key may be looser than: docs/server.md#profiles.
    Left out: each has the default of this table."""
    devices: int | None = Field(default=None, ge=2, le=10**9)
    """How many devices are expected, with a profile; sizes follow from it."""
    name: str = "localhost"
    """The host name to which devices connect."""
    items: str = "items"
    """The public catalogue: a file of item ids, one per line; relative to the server folder."""
    privacy: PrivacySettings = PrivacySettings()
    training: TrainingSettings = TrainingSettings()
    surveys: SurveySettings = SurveySettings()
    cohort: CohortSettings = CohortSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    release: ReleaseSettings = ReleaseSettings()
    gateway: GatewaySettings = GatewaySettings()
    backup: BackupSettings = BackupSettings()
    logs: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    invitations: InvitationSettings = InvitationSettings()
    problems: ProblemSettings = ProblemSettings()
    witnesses: WitnessSettings = WitnessSettings()

    @model_validator(mode="before")
    @classmethod
    def _follow_from_the_profile(cls, data: Any) -> Any:
        return complete(_plain(data))[0] if isinstance(data, Mapping) and data.get("profile") is not None else data

    def value(self, key: str) -> Any:
        """The value of a key, with its section, such as `cohort.size`."""
        found: Any = self
        for part in key.split("."):
            found = getattr(found, part)
        return found

    def missing(self, folder: Path) -> list[str]:
        """What the profile still asks for before the server may serve, each with what to do; empty if nothing.

        Args:
            folder: the server folder.
        """
        if self.profile is None:
            return []
        profile, found = PROFILES[self.profile], []
        kept = (folder / (self.backup.witness or "witness")).resolve()
        if profile.outside and kept.is_relative_to(folder.resolve()):
            found.append("`backup.witness` must name a folder outside of the server folder, best on another disk")
        if profile.watched and not self.witnesses.keys:
            found.append(
                "`witnesses.keys` and `witnesses.urls` must name a witness of the ledger: give it the key that "
                "`palate serve status` prints, see docs/recover.md#witnesses-of-the-ledger"
            )
        return found

    def check_ready(self, folder: Path) -> None:
        """Refuse to serve while something is missing that the profile asks for.

        Raises:
            InputError: it is missing; nothing was started.
        """
        if found := self.missing(folder):
            raise InputError(f"with the profile {self.profile}, before it serves: {'; '.join(found)}")

    @property
    def trial(self) -> bool:
        """Whether it is only tried out, which all that comes of it says."""
        return self.profile == TRIAL

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        if self.devices is not None and self.profile is None:
            raise ValueError("`devices` must be left out where there is no `profile`: nothing follows from it")
        if self.profile is not None and (looser := loosened(self.profile, self.value)):
            raise ValueError(looser)
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
        if self.gateway.certificate and self.gateway.acme_port:
            raise ValueError(
                "gateway.certificate must be left out with gateway.acme_port, which names the files by itself"
            )
        ports = [self.gateway.port, *self.gateway.loopback_ports, *filter(None, [self.gateway.acme_port])]
        if len(set(ports)) < len(ports):
            raise ValueError(f"the gateway's ports must differ, got {ports}")
        for name, each in (("metrics", self.metrics), ("invitations", self.invitations)):
            if each.address and each.place()[1] in ports:
                raise ValueError(f"the port of {name}.address must differ from the other ports, got {ports}")
            ports += [each.place()[1]] if each.address else []
        return self


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as its file has it, also where sections are objects."""
    return {
        key: value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
        for key, value in data.items()
    }


def explained(path: Path) -> list[SettingInForce]:
    """Each setting of a valid configuration file, in the order of the table: its value, where it is from, and why.

    Raises:
        InputError: as `read_config`.
    """
    config = read_config(path)
    told = {each.key: each for each in complete(tomllib.loads(path.read_text(encoding="utf-8")))[1]}
    return [told.get(key, SettingInForce(key, value, "default")) for key, value in _settings(config)]


def _settings(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key with its section, and its value."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_config(path: Path) -> ServerConfig:
    """Read and check a configuration file.

    Raises:
        InputError: it is missing or not TOML, or a key is unknown or out of range.
    """
    try:
        return parse_config(path.read_bytes(), path.name)
    except OSError as error:
        raise InputError(f"a server folder must have its {path.name}, got {path}: {error.strerror}") from None


def parse_config(data: bytes, name: str) -> ServerConfig:
    """Check a configuration; `name` is its file's name in errors.

    Raises:
        InputError: it is not TOML, or a key is unknown or out of range.
    """
    try:
        return ServerConfig.model_validate(tomllib.loads(data.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name} must be TOML, got an error: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        section, said = ".".join(str(part) for part in first["loc"][:-1]), one_line(error)
        if first["type"] == "extra_forbidden":
            said = _unknown(str(first["loc"][-1]), section)
        raise InputError(f"{name}{f', [{section}]' if section else ''}: {said}") from None


def _unknown(key: str, section: str) -> str:
    """What is said of a key that there isn't: the keys nearest to it, here or in another section."""
    known = [f"{section}.{each}" if section else each for section, each in _keys()]
    near = get_close_matches(f"{section}.{key}" if section else key, known, n=1, cutoff=0.8)
    return f"`{key}` is no key of a server{f': did you mean `{near[0]}`?' if near else ', see docs/server.md'}"


def _keys() -> Iterator[tuple[str, str]]:
    """Section, empty at the top, and name of every key and section."""
    for name, field in ServerConfig.model_fields.items():
        yield "", name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from ((name, each) for each in inner.model_fields)
