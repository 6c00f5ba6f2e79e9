"""The folder of a witness: its key, which logs it watches, and what it has cosigned last of each.

    witness.toml      name, address, limits, and where the second copy of the states is
    key               the witness's key (mode 0600); it signs nothing but cosignatures
    logs/ID           the verifier keys of a log that is watched, one a line; ID is SHA-256 of its origin
    states/ID         what was cosigned last: size, root, number of the state, and the signed note
    evidence/ID-...   two roots of one size that a log has signed, or a cosignature that the state lacks
    lock              held by the process that runs

A state is on disk before its cosignature leaves, and its number only rises. Where `copy` names a folder on another
disk, each state is written there too: a folder that was restored from a backup has a lower number than the copy, and is
refused. Without one only a cosignature of its own that it lacks tells a witness that it was restored.

    >>> import tempfile
    >>> folder = WitnessFolder.make(Path(tempfile.mkdtemp()) / "witness", WitnessConfig(name="witness.example/palate"))
    >>> folder.verifier_key.name
    'witness.example/palate'
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.records.files import create_durably, write_durably
from palate_common.records.key_file import load_key, save_key
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, read_canonical
from palate_core.log.entries import one_line
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, ED25519, VerifierKey, check_name
from palate_core.log.signing import SigningKey

MOST_LOG_FILE = 2**14
"""Bytes of the largest file of a log's keys."""
MOST_KEYS = 16
"""The most keys of a log."""
MOST_STATE = 2**15
"""Bytes of the largest state."""
MOST_EVIDENCE = 16
"""The most pieces of evidence that are kept of a log."""
MOST_CONFIG = 2**14
_EMPTY = MerkleTree().checkpoint()


class WitnessConfig(BaseModel):
    """The settings of a witness, `witness.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """The witness's name in its cosignatures: by custom a URL without scheme, such as `witness.example/palate`."""
    listen: str = "127.0.0.1"
    """The address to listen on. Plain HTTP: a proxy on the same machine adds TLS."""
    port: int = Field(default=8710, ge=1, le=65535)
    """The port to listen on."""
    copy_folder: str = Field(default="", alias="copy")
    """A folder on another disk, which no backup restores: a second copy of the states. Empty: none."""
    per_second: float = Field(default=10.0, gt=0, le=1e4)
    """Requests per second of one address but the loopback's, and new states of one log; ten times as many at once."""


class State(BaseModel):
    """What a witness has cosigned last of a log."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Annotated[int, Field(ge=1, le=1)] = 1
    origin: str
    number: Annotated[int, Field(ge=0)] = 0
    """How many states there were before: it only rises."""
    size: Annotated[int, Field(ge=0)] = 0
    root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = _EMPTY.root
    note: str = ""
    """The checkpoint with the log's signatures and the witness's own; empty at the start."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Size and root."""
        return Checkpoint(self.size, self.root)

    def to_bytes(self) -> bytes:
        """As it lies on the disk."""
        return canonical_json(self.model_dump(mode="json"))


class RestoredError(IntegrityError):
    """The witness's state is older than what it has cosigned: it must not cosign this log."""


@dataclass(frozen=True)
class WitnessFolder:
    """One witness's folder.

    Attributes:
        folder: its path.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path, config: WitnessConfig) -> WitnessFolder:
        """Make a folder with a new key.

        Raises:
            InputError: there is one already, the name can't be a key's, or the copy would be within the folder.
        """
        check_name(config.name)
        made = cls(folder)
        if made.config_file.exists() or made.key_file.exists():
            raise InputError(f"`FOLDER` must be new, got {folder}, which has a witness: a key is never replaced")
        if config.copy_folder and (folder / config.copy_folder).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"`copy` must be outside the witness's folder, got {config.copy_folder}: {folder}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in made._folders(config):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_key(SigningKey.generate(), made.key_file)
            create_durably(made.config_file, _template(config).encode())
        except OSError as error:
            raise InputError(f"`FOLDER` must be a place that can be written, got {folder}: {error.strerror}") from None
        return made

    @classmethod
    def at(cls, folder: Path) -> WitnessFolder:
        """Open a folder that `palate witness init` made.

        Raises:
            InputError: it isn't one, or its settings or key can't be read.
        """
        found = cls(folder)
        found.verifier_key  # noqa: B018 - refuse before anything starts
        return found

    @cached_property
    def config(self) -> WitnessConfig:
        """The settings, read once."""
        try:
            with self.config_file.open("rb") as file:
                fields = tomllib.loads(file.read(MOST_CONFIG).decode())
            config = WitnessConfig.model_validate(fields)
        except OSError:
            raise InputError(f"`FOLDER` must be one that `palate witness init` made, got {self.folder}") from None
        except ValidationError as error:
            raise InputError(f"{self.config_file.name}: {one_line(error)}") from None
        except ValueError as error:
            raise InputError(
                f"{self.config_file.name} must be TOML, got {' '.join(str(error).split())[:200]}"
            ) from None
        check_name(config.name)
        return config

    @cached_property
    def key(self) -> SigningKey:
        """The witness's key."""
        return load_key(self.key_file)

    @cached_property
    def verifier_key(self) -> VerifierKey:
        """What readers of cosignatures pin."""
        return VerifierKey.of(self.config.name, self.key, COSIGNATURE)

    @property
    def config_file(self) -> Path:
        """The file of the settings."""
        return self.folder / "witness.toml"

    @property
    def key_file(self) -> Path:
        """The file of the key."""
        return self.folder / "key"

    @property
    def lock_file(self) -> Path:
        """The file that the running process locks."""
        return self.folder / "lock"

    @property
    def copy(self) -> Path | None:
        """The folder of the second copy of the states."""
        return self.folder / self.config.copy_folder if self.config.copy_folder else None

    def add(self, key: VerifierKey, origin: str | None = None) -> bool:
        """Watch a log, or accept a further key of one that is watched; returns whether it is new.

        Args:
            key: the log's, of kind `ED25519`.
            origin: the first line of its checkpoints; None: the name of its key.

        Raises:
            InputError: the key is of another kind, or the log has `MOST_KEYS` keys already.
        """
        if key.kind != ED25519:
            raise InputError(f"a log's key must be of kind 1 (Ed25519), got {key.kind}: {key.name:.80}")
        origin = key.name if origin is None else origin
        if not origin or len(origin.encode()) > 1024 or not origin.isprintable():
            raise InputError(f"an origin must be one line of at most 1024 bytes, got {origin!r:.80}")
        log = log_id(origin)
        known = self.keys(log)
        if key in known:
            return False
        if len(known) == MOST_KEYS:
            raise InputError(f"a log must have at most {MOST_KEYS} keys, got one more: {origin:.80}")
        try:
            if not known:  # the state first: a log without one is refused
                self._begin(log, State(origin=origin))
            write_durably(self.folder / "logs" / log, "".join(f"{each}\n" for each in (*known, key)).encode())
        except OSError as error:
            raise InputError(f"`FOLDER` must be writable, got {self.folder}: {error.strerror}") from None
        return not known

    def logs(self) -> list[str]:
        """The ids of the logs that are watched."""
        return sorted(path.name for path in (self.folder / "logs").iterdir() if not path.name.startswith("."))

    def keys(self, log: str) -> tuple[VerifierKey, ...]:
        """The keys of a log; () if it isn't watched.

        Raises:
            InputError: its file isn't one that `add` wrote.
        """
        try:
            with (self.folder / "logs" / log).open("rb") as file:
                lines = file.read(MOST_LOG_FILE).decode().splitlines()
        except FileNotFoundError:
            return ()
        except (OSError, ValueError):
            raise InputError(f"logs/{log:.16}… must be readable lines of verifier keys") from None
        return tuple(VerifierKey.read(line) for line in lines)

    def state(self, log: str) -> State:
        """What was cosigned last of a log.

        Raises:
            RestoredError: there is no state, or an older one than in the copy: the folder was restored from a backup.
            IntegrityError: it isn't a state.
        """
        state = _read(self.folder / "states" / log)
        if state is None:
            raise RestoredError(f"states/{log:.16}… must be there, got none: the folder was restored, or is damaged")
        copy = None if self.copy is None else _read(self.copy / log)
        if copy is not None and (copy.number > state.number or (copy.number == state.number and copy != state)):
            raise RestoredError(
                f"states/{log:.16}… must be as new as its copy, got number {state.number} and {copy.number} in the "
                "copy: the folder was restored from a backup"
            )
        return state

    def keep(self, log: str, state: State) -> None:
        """Write a state, and then its copy.

        Raises:
            OSError: one can't be written: nothing may be cosigned.
        """
        write_durably(self.folder / "states" / log, state.to_bytes(), mode=0o600)
        if self.copy is not None:
            write_durably(self.copy / log, state.to_bytes(), mode=0o600)

    def settle(self, log: str, state: State) -> None:
        """Write the copy of a state that is on disk already, where it lacks it: it was full when the state was kept.

        Raises:
            OSError: it can't be written: nothing may be cosigned.
            IntegrityError: the copy isn't a state.
        """
        if self.copy is not None and _read(self.copy / log) != state:
            write_durably(self.copy / log, state.to_bytes(), mode=0o600)

    def tell_fork(self, log: str, state: State, note: str) -> None:
        """Keep evidence that a log has signed another root of the size that was cosigned.

        The same evidence is kept once, and at most `MOST_EVIDENCE` pieces of a log.

        Raises:
            OSError: it can't be written.
        """
        there = self.forks(log)
        if len(there) < MOST_EVIDENCE and all(_text(piece["signed"]) != _text(note) for piece in there):
            self._tell(f"{log}-fork-{len(there)}", state, note)

    def tell_restored(self, log: str, state: State, note: str) -> None:
        """Keep a cosignature of this witness's own that is newer than its state: from here on the log is refused.

        Raises:
            OSError: it can't be written.
        """
        if not self.was_restored(log):
            self._tell(f"{log}-restored", state, note)

    def forks(self, log: str) -> list[dict[str, str]]:
        """The evidence against a log: notes of what was `cosigned`, and `signed` beside it.

        Raises:
            IntegrityError: a piece can't be read.
        """
        found = []
        for number in range(MOST_EVIDENCE):
            try:
                with (self.folder / "evidence" / f"{log}-fork-{number}").open("rb") as file:
                    piece = read_canonical(file.read(2 * MOST_STATE + 1), most=2 * MOST_STATE)
            except FileNotFoundError:
                break
            if not isinstance(piece, dict) or not {"cosigned", "signed"} <= set(piece):
                raise IntegrityError(f"evidence/{log:.16}…-fork-{number} must have two notes, got something else")
            found.append({name: str(value) for name, value in piece.items()})
        return found

    def was_restored(self, log: str) -> bool:
        """Whether a cosignature was seen that is newer than the state."""
        return (self.folder / "evidence" / f"{log}-restored").exists()

    def _tell(self, name: str, state: State, note: str) -> None:
        piece = {"origin": state.origin, "cosigned": state.note, "signed": note}
        write_durably(self.folder / "evidence" / name, canonical_json(piece), mode=0o600)

    def check(self) -> list[str]:
        """What is wrong with the states, a line each: a witness starts all the same, and refuses those logs."""
        wrong = []
        for log in self.logs():
            try:
                self.state(log)
                self.keys(log)
                if self.was_restored(log):
                    raise RestoredError(
                        f"states/{log:.16}… must have all that was cosigned: evidence/ has what it lacks"
                    )
            except (IntegrityError, InputError) as error:
                wrong.append(str(error))
        return wrong

    def make_copies(self) -> None:
        """Write what the copy lacks, as after the setting was made.

        Raises:
            InputError: it can't be written.
            IntegrityError: a state can't be read.
        """
        if self.copy is None:
            return
        try:
            self.copy.mkdir(mode=0o700, parents=True, exist_ok=True)
            for log in self.logs():
                state = None if (self.copy / log).exists() else _read(self.folder / "states" / log)
                if state is not None:
                    write_durably(self.copy / log, state.to_bytes(), mode=0o600)
        except OSError as error:
            raise InputError(
                f"`copy` must be a folder that can be written, got {self.copy}: {error.strerror}"
            ) from None

    def _begin(self, log: str, state: State) -> None:
        """The first state of a log; one that is there, of a log that was watched before, stays."""
        try:
            create_durably(self.folder / "states" / log, state.to_bytes(), mode=0o600)
        except FileExistsError:
            return
        if self.copy is not None and not (self.copy / log).exists():
            write_durably(self.copy / log, state.to_bytes(), mode=0o600)

    def _folders(self, config: WitnessConfig) -> list[Path]:
        own = [self.folder / name for name in ("logs", "states", "evidence")]
        return [*own, self.folder / config.copy_folder] if config.copy_folder else own


def log_id(origin: str) -> str:
    """The name of a log's files, and of its path: SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _read(path: Path) -> State | None:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_STATE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IntegrityError(f"{path.name:.16}… must be a readable state, got {error.strerror}") from None
    try:
        return State.model_validate(read_canonical(data, most=MOST_STATE))
    except ValidationError as error:
        raise IntegrityError(f"{path.name:.16}… must be a state: {one_line(error)}") from None


def _text(note: str) -> str:
    """The text of a note."""
    return note.rpartition("\n\n")[0]


def _template(config: WitnessConfig) -> str:
    """The settings as TOML."""
    values = config.model_dump(mode="json", by_alias=True)
    return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


def _toml(value: object) -> str:
    return canonical_json(value).decode() if isinstance(value, str) else str(value)
