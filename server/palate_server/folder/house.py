"""House: a folder with the server folders of several populations, which share name, port, nginx and certificate.

    house.toml            where all of them are: name, port, certificate
    p/NAME/               a server folder, as `palate serve init` makes it: the population at the path /p/NAME
    open/NAME             an empty file: this population is served
    tls/                  the house's own authority and the gateway's certificate, if the operator gives none
    state/, logs/         the gateway's configuration and process id; events.jsonl and the gateway's output

A population has its ledger, budgets, keys, register and processes in its own folder, and nothing of them here. Its
`server.toml` says where it is, so that it can also be run, backed up and restored alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate_common.records.files import create_durably, write_durably
from palate_common.system import sync_folder
from palate_core.errors import InputError, PalateError
from palate_server.folder.certificates import issue, keep_place, make_authority, pair_of
from palate_server.folder.config import FOLDER_NAME, NAME, ConsoleSettings, MetricsSettings, ServerConfig
from palate_server.folder.server_folder import Premises, Site
from palate_server.ledger.history import one_line

POPULATIONS = "p"
"""The folder of the populations, and what their paths begin with."""
BLOCK = 10
"""Each new population gets the next so many ports, and uses three of them."""
_FOLDER = re.compile(FOLDER_NAME, re.ASCII)


class HouseConfig(BaseModel):
    """What several populations share."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The host name to which devices connect. A population with another `name` is served under that one."""
    listen: str = "0.0.0.0"  # noqa: S104 - the gateway is what faces the network
    """Address on which the gateway listens, for all populations."""
    port: int = Field(default=8443, ge=1, le=65535)
    """Port of the gateway; each population's `gateway.port` must be the same."""
    metrics_port: int = Field(default=8447, ge=1, le=65535)
    """Port of the house's `/metrics`, `/health` and `/ready`, on the loopback; each population has its own."""
    certificate: str = ""
    """PEM chain for `name`, its authority last; empty: the house's own authority issues it. Relative to the house."""
    certificate_key: str = ""
    """The certificate's private key."""
    acme_port: int = Field(default=0, ge=0, le=65535)
    """Port on which the gateway answers an ACME authority, 80 as seen from outside, with what an ACME client puts into
    `p`: docs/operations.md#a-public-certificate. The certificate is then the one that `palate serve certificate`
    installs. 0: none."""
    console: ConsoleSettings = ConsoleSettings()
    metrics: MetricsSettings = MetricsSettings()

    @model_validator(mode="after")
    def _can_be_run(self) -> HouseConfig:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name must be a host name in lower case, got {self.name!r:.80}")
        if bool(self.certificate) != bool(self.certificate_key):
            raise ValueError("certificate and certificate_key are given together, or neither")
        if self.certificate and self.acme_port:
            raise ValueError("certificate must be left out with acme_port, which names the files by itself")
        if self.metrics.address and self.metrics.place()[1] in self.ports:
            raise ValueError(f"the port of metrics.address must be its own, got {self.metrics.address}")
        if len(set(self.ports)) < len(self.ports):
            raise ValueError(f"the ports must differ, got {self.ports}")
        return self

    @property
    def ports(self) -> list[int]:
        """All ports of the house itself."""
        return [self.port, self.metrics_port, *filter(None, [self.acme_port])]


@dataclass(frozen=True)
class House(Premises):
    """One house."""

    @classmethod
    def at(cls, folder: Path) -> House:
        """Open a folder that `palate serve house` made.

        Raises:
            InputError: it isn't such a folder, or its configuration isn't valid.
        """
        house = cls(folder.resolve())
        if not house.config_file.is_file():
            raise InputError(f"`HOUSE` must be one that `palate serve house` made, got {folder}")
        house.config  # noqa: B018 - refuse an invalid configuration before anything is started
        return house

    @classmethod
    def of(cls, folder: Path) -> House | None:
        """The house whose population's folder this is, or will be; None: it is in none.

        Raises:
            InputError: the house's configuration isn't valid, or no population can have the folder's name.
        """
        place = folder.resolve()
        if place.parent.name != POPULATIONS or not (place.parent.parent / "house.toml").is_file():
            return None
        check_name(place.name)
        return cls.at(place.parent.parent)

    @cached_property
    def config(self) -> HouseConfig:
        """The configuration, which is read only once."""
        try:
            return parse_house(self.config_file.read_bytes())
        except OSError as error:
            raise InputError(f"house.toml must be readable, got an error: {error}") from None

    @property
    def config_file(self) -> Path:
        """The file of the configuration."""
        return self.folder / "house.toml"

    @property
    def address(self) -> str:
        """Where the gateway is."""
        return f"https://{self.config.name}:{self.config.port}"

    @property
    def populations(self) -> Path:
        """The folder of the populations' folders."""
        return self.folder / POPULATIONS

    @property
    def open_folder(self) -> Path:
        """The folder with a file for each population that is served."""
        return self.folder / "open"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The certificate chain of the house's name, and its key."""
        chain, key = self.certificate_names
        return self.folder / chain, self.folder / key

    @property
    def certificate_names(self) -> tuple[str, str]:
        """The same files, as `house.toml` names them."""
        return pair_of(self.config.certificate, self.config.certificate_key, acme=self.config.acme_port > 0)

    @property
    def certificate_seen(self) -> tuple[str, str]:
        """The same files, as a population's `server.toml` names them."""
        chain, key = (name if Path(name).is_absolute() else f"../../{name}" for name in self.certificate_names)
        return chain, key

    def make_certificate(self) -> None:
        """Issue the certificate of the house's name, unless the operator gives one, if it is missing or ends soon."""
        if self.config.certificate:
            return
        make_authority(self.tls)
        if self.config.acme_port:
            keep_place(self.tls, self.config.name)
        else:
            issue(self.tls, "server", [self.config.name])

    def names(self) -> list[str]:
        """Names of all populations, served or not."""
        found = self.populations.iterdir() if self.populations.is_dir() else ()
        return sorted(each.name for each in found if _FOLDER.fullmatch(each.name) and (each / "server.toml").is_file())

    def opened(self) -> list[str]:
        """Names of the populations that are to be served."""
        found = self.open_folder.iterdir() if self.open_folder.is_dir() else ()
        return sorted(each.name for each in found if _FOLDER.fullmatch(each.name))

    def site(self, name: str) -> Site:
        """The server folder of a population.

        Raises:
            InputError: there is no such folder, or its configuration isn't valid.
        """
        check_name(name)
        place = self.populations / name
        if place.is_symlink():
            raise InputError(f"a population's folder must be in the house, got a link to elsewhere: {place}")
        return Site.at(place)

    def sites(self, names: list[str]) -> dict[str, Site]:
        """The server folders of those populations whose configuration is valid."""
        found = {}
        for name in names:
            try:
                found[name] = self.site(name)
            except PalateError:
                continue
        return found

    def open(self, name: str) -> Site:
        """Let a population be served; a house that runs starts it within seconds.

        Raises:
            InputError: it doesn't fit into the house, or beside another population that is open.
        """
        site = self.site(name)
        self.check(name, site, self.sites([each for each in self.opened() if each != name]))
        self.open_folder.mkdir(exist_ok=True, mode=0o700)
        write_durably(self.open_folder / name, b"", mode=0o600)
        return site

    def shut(self, name: str) -> None:
        """Let a population be served no more; its folder stays as it is.

        Raises:
            InputError: it isn't open.
        """
        check_name(name)
        try:
            (self.open_folder / name).unlink()
        except FileNotFoundError:
            raise InputError(f"`NAME` must be a population that is open, got {name}") from None
        sync_folder(self.open_folder)

    def check(self, name: str, site: Site, others: Mapping[str, Site]) -> None:
        """Refuse a population that would share with another what each must have for itself.

        **Guarantees:** populations that pass have different ports, places, release keys, names and witness folders.

        Args:
            name: its folder's name.
            site: its folder.
            others: the populations that are open beside it.

        Raises:
            InputError: it doesn't fit; the message says what to change.
        """
        mine = site.config.gateway
        if mine.port != self.config.port:
            raise InputError(f"`gateway.port` of {name} must be the house's, {self.config.port}, got {mine.port}")
        if site.config.name == self.config.name and _certificate(site) != self._own_certificate:
            raise InputError(
                f"`gateway.certificate` of {name} must be the house's, as its name is, {self.certificate[0]}, with its "
                f"key, got {_certificate(site)[0]}"
            )
        taken = dict.fromkeys(self.config.ports, "the house")
        for other, there in others.items():
            taken |= dict.fromkeys(there.config.gateway.loopback_ports, other)
            for what, own, theirs in (
                ("`population`", site.config.population, there.config.population),
                ("the release key", site.key().public, _key(there)),
                ("`name` and `gateway.path`", _place(site.config), _place(there.config)),
                ("`backup.witness`", site.witness.resolve(), there.witness.resolve()),
            ):
                if own == theirs:
                    raise InputError(f"{what} of {name} must be its own, got what {other} has: {own}")
            if there.config.name == site.config.name and _certificate(there) != _certificate(site):
                raise InputError(f"`gateway.certificate` of {name} must be what {other} has under the same `name`")
        for port in site.config.gateway.loopback_ports:
            if port in taken:
                raise InputError(f"the ports of {name} must be its own, got one that {taken[port]} has: {port}")

    def next_ports(self) -> tuple[int, int, int]:
        """Ports for the loopback interface that no population of this house has.

        Raises:
            InputError: there are none left.
        """
        taken = set(self.config.ports)
        for site in self.sites(self.names()).values():
            taken.update(site.config.gateway.loopback_ports)
        first = (self.config.port // BLOCK + 1) * BLOCK
        for base in range(first, 65536 - BLOCK, BLOCK):
            if not taken.intersection(range(base, base + BLOCK)):
                return base, base + 1, base + 2
        raise InputError(f"a house must have ports left above {first}, got none: give `--port` a lower one")

    @cached_property
    def _own_certificate(self) -> tuple[Path, Path]:
        return self.certificate[0].resolve(), self.certificate[1].resolve()


def parse_house(data: bytes) -> HouseConfig:
    """Check the configuration of a house.

    Raises:
        InputError: it is not TOML, or a key is unknown or out of range.
    """
    try:
        return HouseConfig.model_validate(tomllib.loads(data.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"house.toml must be TOML, got an error: {error}") from None
    except ValidationError as error:
        raise InputError(f"house.toml: {one_line(error)}") from None


def make_house(folder: Path, *, name: str, port: int) -> House:
    """Make a house without populations.

    Raises:
        InputError: the folder isn't empty, or the name isn't one.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"`HOUSE` must be new or empty, got {folder}")
    try:
        config = HouseConfig(
            name=name, port=port, metrics_port=port + 4
        )  # a server that was alone has the three between
    except ValidationError as error:
        raise InputError(f"a house must have a name and a port: {one_line(error)}") from None
    house = House(folder.resolve())
    for path in (house.folder, house.populations, house.open_folder, house.tls, house.state, house.logs):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    make_authority(house.tls)
    issue(house.tls, "server", [name])
    create_durably(house.config_file, TEMPLATE.format(config=config).encode())  # the last: with it, it is a house
    return house


TEMPLATE = """\
# Every key is described in docs/operations.md; a key that is left out has its default.
name = "{config.name}"     # the host name that devices connect to
port = {config.port}                # the gateway's, for all populations
metrics_port = {config.metrics_port}        # of the house, on the loopback interface
"""


def check_name(name: str) -> None:
    """Refuse what isn't the name of a population's folder.

    Raises:
        InputError: it isn't one.
    """
    if not _FOLDER.fullmatch(name):
        raise InputError(f"a population's folder in a house must be named by a-z, 0-9 and -, got {name!r:.80}")


def _key(site: Site) -> str:
    """The release key of a population that is open; empty if it is lost, which is no reason not to open another."""
    try:
        return site.key().public
    except (PalateError, OSError):
        return ""


def _place(config: ServerConfig) -> str:
    return f"{config.name}{config.gateway.path}"


def _certificate(site: Site) -> tuple[Path, Path]:
    """The files of a population's certificate and its key."""
    chain, key = site.certificate
    return chain.resolve(), key.resolve()
