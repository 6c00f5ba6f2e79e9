"""Site: the server folder with all of the server's files.

    server.toml, items    the configuration and the catalogue; features.npy, if items have public features
    item-table.json       what devices get of the items beside their ids, if the operator gave any
    panel.safetensors     the public model of people who share their log openly, if there are any
    rules.json            what the operator wants of every list, if anything
    key, keys/            the release key (mode 0600); public keys of former ones, and the next one until it is in use
    ledger.db             the population's privacy ledger
    enrolment.db          tokens (hashed), devices, quarantines, exclusions with their evidence
    runs/RUN/             a run's terms, releases and inputs
    surveys/WEEK.json     a survey's figures, signed
    public/models/SHA/    published models by the hash of their manifest; models/latest names the newest
    public/round/SHA      the model that the open attempt starts from, by its hash: not in backups
    public/ledger/        the ledger as files that anybody may replay: checkpoint, tiles, entries
    tls/                  the folder's own certificate authority, and its certificates
    state/                sockets, secrets, generated configuration and locks, made anew at each start; and the time of
                          the latest attempt
    format                the format of the folder, and the version that made it
    logs/                 events.jsonl (structured, without identifiers) and the output of the processes

The population's ledger and `enrolment.db` can't be recreated: see `palate serve backup`.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from palate_common.algorithms import State
from palate_common.algorithms.als.algorithm import FEATURES
from palate_common.algorithms.parts.links import MOST_LINKS
from palate_common.algorithms.parts.panel import check_panel
from palate_common.models.catalogue import ItemCatalogue, read_lines
from palate_common.models.item_rows import read_facts
from palate_common.models.item_table import ItemTable
from palate_common.models.rules import Rule, rules_from_bytes
from palate_common.records.files import write_durably
from palate_common.records.key_file import load_key
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.checkpoints import LogState, read_state
from palate_core.log.consistency import SPENT
from palate_core.log.notes import MOST_NOTE, Note, read_note
from palate_core.log.signing import SigningKey
from palate_server.folder.config import ServerConfig, read_config
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror

if TYPE_CHECKING:
    from palate_server.ledger.witnesses import Witnesses

FORMAT = 2
"""The format of a server folder; a folder of another one is refused."""
COSIGNED = "checkpoint.json"
FORMAT_FILE = "format"
PANEL_FILE = "panel.safetensors"
"""The panel's model in a server folder."""
ABOUT, MOST_ABOUT = "palate", 2**16
"""Name of what is said about a panel in its file, and the most bytes of that."""
TABLE_FILE = "item-table.json"
"""Titles and other facts of the items in a server folder."""
RULES_FILE = "rules.json"
"""What the operator wants of every list."""
MOST_FEATURES = 1024
"""The most features of an item."""


@dataclass(frozen=True)
class Site:
    """One server folder.

    Attributes:
        folder: its path.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Site:
        """Open a folder that `palate serve init` made.

        Raises:
            InputError: it isn't such a folder, or its configuration isn't valid.
        """
        site = cls(folder.resolve())
        if not site.config_file.is_file():
            raise InputError(f"`FOLDER` must be one that `palate serve init` made, got {folder}")
        if (found := format_of(site.folder)) != FORMAT:
            raise InputError(f"`FOLDER` must be of format {FORMAT}, got {found}: use the version that made it")
        site.config  # noqa: B018 - refuse an invalid configuration before anything is started
        return site

    @property
    def tls(self) -> Path:
        """The folder of certificates."""
        return self.folder / "tls"

    @property
    def state(self) -> Path:
        """The folder of files that are made anew at each start."""
        return self.folder / "state"

    @property
    def logs(self) -> Path:
        """The folder of logs."""
        return self.folder / "logs"

    @property
    def events(self) -> Path:
        """The file of events, one JSON object per line, without identifiers."""
        return self.logs / "events.jsonl"

    @cached_property
    def config(self) -> ServerConfig:
        """The configuration, which is read only once."""
        return read_config(self.config_file)

    def afresh(self) -> Site:
        """The same folder, of which nothing but the configuration was read: catalogue and features may have changed."""
        site = type(self)(self.folder)
        vars(site)["config"] = self.config
        return site

    @property
    def items_file(self) -> Path:
        """The file of the catalogue."""
        return self.folder / self.config.items

    @property
    def items_stamp(self) -> tuple[int, ...]:
        """Another one once `items`, features, facts, rules, panel or the latest model may have changed."""
        features, found = self.config.training.features, list[int]()
        for path in (
            self.items_file,
            self.panel_file,
            self.table_file,
            self.rules_file,
            self.models / "latest",
            *([self.folder / features] * bool(features)),
        ):
            with suppress(OSError):
                there = path.stat()
                found += [there.st_ino, there.st_mtime_ns, there.st_size]
        return tuple(found)

    @cached_property
    def catalogue(self) -> ItemCatalogue:
        """The items, in row order: what devices have once the latest model has them, see `publish_items`.

        Raises:
            InputError: the file is no readable list of distinct ids.
        """
        path = self.items_file
        try:
            items = read_lines(path.read_bytes())
        except (OSError, ValueError):
            raise InputError(f"`items` must be a file of ids, one a line, each line ended, got {path}") from None
        if not items:
            raise InputError(f"`items` must name at least one item, got an empty file: {path}")
        return ItemCatalogue(items)

    @property
    def public_inputs(self) -> State:
        """Public inputs of a run beside the catalogue: item features and a panel's model, if there are any.

        The features are read once; the panel is read for each run, since the operator renews it between runs.

        Raises:
            InputError: the features are no readable matrix of finite numbers with one row per item, or the panel is no
                model of this catalogue.
        """
        return self._features | self._panel()

    @property
    def panel_file(self) -> Path:
        """The file of the panel's model."""
        return self.folder / PANEL_FILE

    @property
    def panel_about(self) -> dict[str, str]:
        """What the operator said of the panel's log: `origin` and `licence`; {} without a panel."""
        try:
            with safetensors.safe_open(self.panel_file, framework="numpy") as file:
                said = read_canonical((file.metadata() or {}).get(ABOUT, "{}").encode(), most=MOST_ABOUT)
        except FileNotFoundError:
            return {}
        except (safetensors.SafetensorError, IntegrityError, OSError) as error:
            raise InputError(f"{PANEL_FILE} must be what `palate serve panel` wrote: {_line(error)}") from None
        return {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}

    @property
    def table_file(self) -> Path:
        """The file of what devices get of the items beside their ids."""
        return self.folder / TABLE_FILE

    @property
    def table(self) -> ItemTable | None:
        """What devices get of the items beside their ids, as the file has it now; None: there is none.

        Raises:
            InputError: it isn't what `palate serve items` wrote.
        """
        return read_facts(self.table_file, TABLE_FILE) if self.table_file.exists() else None

    @property
    def rules_file(self) -> Path:
        """The file of what the operator wants of every list."""
        return self.folder / RULES_FILE

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What the operator wants of every list, as the file has it now.

        Raises:
            IntegrityError: it isn't what `palate serve rules` wrote.
        """
        return rules_from_bytes(self.rules_file.read_bytes()) if self.rules_file.exists() else ()

    def _panel(self) -> State:
        """The panel's model; {} if nobody shares their log."""
        rows = len(self.catalogue.items)
        most = rows * (8 * MOST_LINKS + 8) + 2**16
        try:
            with self.panel_file.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{PANEL_FILE} must be readable, got {self.panel_file}: {error.strerror}") from None
        if len(data) > most:
            raise InputError(f"{PANEL_FILE} must have at most {most} bytes for {rows} items: {self.panel_file}")
        try:
            found: State = safetensors.numpy.load(data)
            check_panel(found, n_items=rows)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{PANEL_FILE} must be what `palate serve panel` wrote for these items: {_line(error)}"
            ) from None
        return found

    @cached_property
    def _features(self) -> State:
        """Item features, float32 [items, features]; {} if there are none."""
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
        return load_key(self.folder / "key")

    def ledger(self, *, read_only: bool = False) -> Ledger:
        """Open the population's ledger; the caller has to close it."""
        return Ledger(self.ledger_file, population=self.config.population, read_only=read_only)

    def reading(self) -> AbstractContextManager[Ledger]:
        """The ledger, for who only reads; a `WatchedSite` keeps it open."""
        return self.ledger(read_only=True)

    def witnesses(self, ledger: Ledger) -> Witnesses | None:
        """The ledger's witnesses, if the configuration names any; the caller has to close them.

        Each cosigned checkpoint is in the folder of `backup.witness` before anybody is shown it: a charge's in its
        plan, others in a file of their own. The mirror follows (`mirror_cosigned`): a plan doesn't wait for its files.
        """
        settings = self.config.witnesses
        if not settings.keys:
            return None
        from palate_server.ledger.witnesses import Witnesses  # loads an HTTP client

        def keep(ledger: Ledger, note: Note) -> None:
            kept = {"cosigned": note.to_bytes().decode(), SPENT: ledger.spent()}
            write_durably(self.cosigned_file, canonical_json(kept))
            with suppress(OSError):  # the operation tells of a mirror that can't be written
                Mirror(self.mirror).cosign(note)

        key = self.key()
        log = ledger.log_key(key.public)
        return Witnesses(
            settings.addresses(), log=log, key=key, needed=settings.needed, seconds=settings.seconds, keep=keep
        )

    def mirror_cosigned(self, ledger: Ledger) -> bool:
        """Write the ledger to its mirror if witnesses have cosigned its present state; returns whether they have.

        It can be done at any time, and again: where a process has ended before it, the next one does it.

        Raises:
            OSError, InputError: a file can't be written.
        """
        try:
            note, _ = read_cosigned(self.cosigned_file)
            state = read_state(note.text)
        except (FileNotFoundError, IntegrityError):
            return False
        present = LogState(ledger.log_key(self.key().public).name, ledger.checkpoint())
        if state != present:
            return False
        mirror = Mirror(self.mirror)
        if not mirror.update(ledger, lambda _: note, state.checkpoint.size):
            mirror.cosign(note)
        return True

    @property
    def cosigned_file(self) -> Path:
        """The latest checkpoint that a quorum of witnesses has cosigned, and what was spent by then.

        It is beside the copy of the latest charge.
        """
        return self.witness / COSIGNED

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / name

    @property
    def surveys(self) -> Path:
        """The folder of survey results."""
        return self.folder / "surveys"

    @property
    def address(self) -> str:
        """Where devices find the gateway."""
        return f"https://{self.config.name}:{self.config.gateway.port}{self.config.gateway.path}"

    @property
    def pages(self) -> Path:
        """The folder of the operator's own pages, which the gateway serves at `app/`."""
        return self.public / "app"

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may use the gateway: its own, and those of the configuration."""
        port = self.config.gateway.port
        own = f"https://{self.config.name}{f':{port}' * (port != 443)}"
        return (own, *(each for each in self.config.gateway.origins if each != own))

    @property
    def config_file(self) -> Path:
        """The file of the configuration."""
        return self.folder / "server.toml"

    @property
    def ledger_file(self) -> Path:
        """The file of the population's ledger."""
        return self.folder / "ledger.db"

    @property
    def enrolment_file(self) -> Path:
        """The file of enrolments."""
        return self.folder / "enrolment.db"

    @property
    def superlink_secret(self) -> Path:
        """The secret by which the SuperLink knows this server's own processes and commands, see `flower.guard`."""
        return self.state / "superlink.secret"

    @property
    def link_socket(self) -> Path:
        """The socket on which the edge answers the ServerApp, with `gateway.link = "direct"`."""
        return self.state / "link.sock"

    @property
    def edge_socket(self) -> Path:
        """The socket on which the edge answers the gateway; nginx is run in its folder."""
        return self.public / "edge.sock"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The files of the gateway's certificate chain and its key."""
        chain, key = self.config.gateway.pair
        return self.folder / chain, self.folder / key

    @property
    def public(self) -> Path:
        """The folder that anyone may read."""
        return self.folder / "public"

    @property
    def models(self) -> Path:
        """The folder of published models."""
        return self.public / "models"

    @property
    def round_models(self) -> Path:
        """The folder of the model that the open attempt starts from."""
        return self.public / "round"

    @property
    def mirror(self) -> Path:
        """The folder of the ledger's mirror."""
        return self.public / "ledger"

    @property
    def parts_file(self) -> Path:
        """The file of what runs: `palate_server.service.parts`."""
        return self.state / "parts.json"

    @property
    def progress_file(self) -> Path:
        """The file of what the server is about: `palate_server.rounds.progress`."""
        return self.state / "progress.json"

    @property
    def witness(self) -> Path:
        """The folder to which each signed plan with its charge is written before it is sent."""
        configured = self.config.backup.witness
        return self.folder / (configured or "witness")

    def make_folders(self) -> None:
        """Make all folders; only the owner can read the private ones."""
        for path in (self.folder, self.folder / "runs", self.folder / "keys", self.state, self.logs, self.tls):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.public, self.models, self.round_models, self.mirror, self.pages):
            path.mkdir(exist_ok=True, mode=0o755)
        self.witness.mkdir(parents=True, exist_ok=True)


def site_signs(site: Site) -> bool:
    """Whether the release key can be read now."""
    try:
        site.key()
    except (PalateError, OSError):
        return False
    return True


def format_of(folder: Path) -> int:
    """The format of a server folder; 0 where none is written.

    Raises:
        InputError: the file is something else.
    """
    path = folder / FORMAT_FILE
    try:
        return int(json.loads(path.read_bytes())["format"])
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"`format` must be what Palate wrote, got something else: {path}") from None


def write_format(folder: Path) -> None:
    """Write that a folder is of this version's format."""
    made = {"format": FORMAT, "palate": version("palate")}
    write_durably(folder / FORMAT_FILE, json.dumps(made).encode() + b"\n", mode=0o600)


def read_cosigned(path: Path) -> tuple[Note, float]:
    """Read what `Site.witnesses` keeps: the latest cosigned checkpoint, not verified, and the mu^2 that was spent.

    Raises:
        OSError: it can't be read.
        IntegrityError: it is something else.
    """
    value = read_canonical(path.read_bytes(), most=MOST_NOTE)
    try:
        return read_note(str(value["cosigned"]).encode()), float(value[SPENT])
    except (KeyError, TypeError, ValueError):
        raise IntegrityError(f"{path.name} must be a cosigned checkpoint, got something else: {path}") from None


def _line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())[:200]


def owner_only() -> None:
    """Set the umask: files of this process and its children are readable by their owner only, unless code says so."""
    os.umask(0o077)
