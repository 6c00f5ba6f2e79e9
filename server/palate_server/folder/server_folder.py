"""Server folder: the server's folder, where everything that it keeps has one place.

    server.toml, items    the configuration, the catalogue; features.npy where items have public features
    key, keys/            the release key (mode 0600); former ones' public halves, with the statement that ended them
    ledger.db             the population's privacy ledger
    enrolment.db          tokens (hashed), devices, quarantine, names and disputes
    runs/RUN/             a run's terms, releases and inputs
    surveys/WEEK.json     a survey's figures, signed
    public/models/SHA/    published models by the hash of their manifest; models/latest names the newest
    public/directory/SHA  lists of identities, by hash
    superlink.db          Flower's messages: purged after each attempt, and not worth a backup
    tls/                  the folder's own authority, and the certificates it issued
    state/                sockets, secrets, generated configuration, locks: made anew at each start; and when the latest
                          attempt began
    logs/                 events.jsonl (structured, without identifiers) and what the processes print

The population's ledger and `enrolment.db` are what can't be made again: see `palate serve backup`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.errors import InputError
from palate_common.models.catalogue import ItemCatalogue, read_lines
from palate_common.records.signing import SigningKey
from palate_server.folder.config import ServerConfig, read_config
from palate_server.ledger.ledger import Ledger

MOST_FEATURES = 1024
"""Numbers of an item."""


@dataclass(frozen=True)
class Site:
    """One server folder.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Site:
        """The site in a folder that `palate serve init` made.

        Raises:
            InputError: there is none, or its configuration isn't valid.
        """
        site = cls(folder.resolve())
        if not site.config_file.is_file():
            raise InputError(f"`FOLDER` must be one that `palate serve init` made, got {folder}")
        site.config  # noqa: B018 - refuse what can't be read before anything is started
        return site

    @cached_property
    def config(self) -> ServerConfig:
        """The configuration, read once."""
        return read_config(self.config_file)

    @cached_property
    def catalogue(self) -> ItemCatalogue:
        """The items, in row order.

        Raises:
            InputError: no readable list of distinct ids.
        """
        path = self.folder / self.config.items
        try:
            items = read_lines(path.read_bytes())
        except (OSError, ValueError):
            raise InputError(f"`items` must be a file of ids, one a line, each line ended, got {path}") from None
        if not items:
            raise InputError(f"`items` must name at least one item, got an empty file: {path}")
        return ItemCatalogue(items)

    @cached_property
    def public_inputs(self) -> State:
        """What every run is given beside the catalogue: its features, if there are any, float32 [items, features].

        Raises:
            InputError: no readable matrix of finite numbers with a row for each item.
        """
        if not self.config.training.features:
            return {}
        path, rows = self.folder / self.config.training.features, len(self.catalogue.items)
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise InputError(f"`training.features` must be a NumPy file of numbers, got {path}") from None
        if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
            raise InputError(f"`training.features` must be one matrix of numbers, got something else: {path}")
        if len(found) != rows or not 1 <= found.shape[1] <= MOST_FEATURES:
            raise InputError(
                f"`training.features` must have {rows} rows, as `items` has, of 1 to {MOST_FEATURES} numbers, got "
                f"{found.shape[0]} of {found.shape[1]}: {path}"
            )
        features = np.ascontiguousarray(found, np.float32)
        if not np.isfinite(features).all():
            raise InputError(f"`training.features` must be finite numbers, got others: {path}")
        return {FEATURES: features}

    def key(self) -> SigningKey:
        """The release key."""
        return SigningKey.load(self.folder / "key")

    def ledger(self, *, read_only: bool = False) -> Ledger:
        """The population's ledger, opened; close it."""
        return Ledger(self.ledger_file, population=self.config.population, read_only=read_only)

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / name

    @property
    def surveys(self) -> Path:
        """Results of surveys."""
        return self.folder / "surveys"

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.folder / "server.toml"

    @property
    def ledger_file(self) -> Path:
        """The population's ledger."""
        return self.folder / "ledger.db"

    @property
    def enrolment_file(self) -> Path:
        """Who may take part."""
        return self.folder / "enrolment.db"

    @property
    def superlink_file(self) -> Path:
        """Flower's database."""
        return self.folder / "superlink.db"

    @property
    def public(self) -> Path:
        """What anybody may read."""
        return self.folder / "public"

    @property
    def models(self) -> Path:
        """Published models."""
        return self.public / "models"

    @property
    def directories(self) -> Path:
        """Lists of identities."""
        return self.public / "directory"

    @property
    def tls(self) -> Path:
        """Certificates."""
        return self.folder / "tls"

    @property
    def state(self) -> Path:
        """What is made anew at each start."""
        return self.folder / "state"

    @property
    def logs(self) -> Path:
        """Logs."""
        return self.folder / "logs"

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line, without identifiers."""
        return self.logs / "events.jsonl"

    @property
    def witness(self) -> Path:
        """Where each charge is witnessed before its plan leaves."""
        configured = self.config.backup.witness
        return self.folder / (configured or "witness")

    def make_folders(self) -> None:
        """Every folder, the private ones for their owner alone."""
        for path in (self.folder, self.folder / "runs", self.folder / "keys", self.state, self.logs, self.tls):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.public, self.models, self.directories):
            path.mkdir(exist_ok=True, mode=0o755)
        self.witness.mkdir(parents=True, exist_ok=True)


def owner_only() -> None:
    """Let no file that this process or a child makes be readable by other accounts, unless it says so."""
    os.umask(0o077)
