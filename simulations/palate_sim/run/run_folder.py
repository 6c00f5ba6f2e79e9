"""RunFolder: the files of one run, and whether a folder may be used for it.

run.json        configuration and data fingerprint, written first; makes the folder a run folder
key             the run-local release key (mode 0600)
identities      with masks: the simulated devices' own keys (mode 0600)
devices.db      the simulated devices' own ledger
files.json      hash and size of the other files, signed
people.json     what some held-out people had and would get
releases/ model/ ledger.json privacy_card.json result.json report.html events.jsonl
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate_common.records.files import write_durably
from palate_common.records.key_file import save_key
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_sim.engines.identities import Identities

FACTS = frozenset({"config", "source", "terms", "fingerprint", "ledger"})
"""The keys of `run.json`."""


DRAFT = re.compile(r"\..+\.([a-z0-9_]{8}|partial)")
"""Pattern of temporary file names: a file gets its final name when it is complete."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def run_file(self) -> Path:
        """Configuration and fingerprint."""
        return self.path / "run.json"

    @property
    def key_file(self) -> Path:
        """The run-local release key."""
        return self.path / "key"

    @property
    def identities_file(self) -> Path:
        """The simulated devices' keys, with masks."""
        return self.path / "identities"

    @property
    def events(self) -> Path:
        """Progress, one JSON object a line."""
        return self.path / "events.jsonl"

    def read(self) -> dict[str, Any]:
        """What the run was started with.

        Raises:
            InputError: not the folder of a run.
        """
        try:
            started = json.loads(self.run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            started = None
        if not isinstance(started, dict) or not started.keys() >= FACTS:
            raise InputError(f"`--resume` needs a run folder with its run.json, got {self.path}")
        return started

    def write(self, name: str, data: bytes) -> None:
        """Write one file atomically."""
        write_durably(self.path / name, data)

    def tidy(self) -> None:
        """Remove temporary files of a killed process; only the process that locked the folder may call it."""
        for path in self.path.rglob(".*"):
            if DRAFT.fullmatch(path.name) and path.is_file():
                path.unlink()

    @property
    def begun(self) -> bool:
        """Whether a round may have started, so that something may have been charged."""
        return (self.path / "devices.db").exists()

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return (self.path / "result.json").exists()


def default_folder(name: str) -> Path:
    """runs/<name>-<UTC time>."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.") or "run"
    return Path("runs") / f"{safe}-{datetime.fromtimestamp(time.time(), UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_new(path: Path) -> None:
    """Refuse a folder with other contents, before anything is computed.

    Raises:
        InputError: a file, a folder with content, or no path.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # raises for impossible names, which the next two calls take for absent files
        folder, there = path.is_dir(), path.exists()
        empty = not folder or not any(path.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"`--out` must be a folder to write to, got {_shown(path)}: {_reason(error)}") from None
    if folder and RunFolder(path).run_file.exists():
        raise InputError(f"`--out` holds a run already; use --resume to go on with it, or another folder: {path}")
    if not empty:
        raise InputError(f"`--out` must be a new or empty folder, got one with other content: {path}")
    if there and not folder:
        raise InputError(f"`--out` must be a folder, got a file: {path}")


def create(path: Path, started: Mapping[str, Any], identities: Identities | None = None) -> RunFolder:
    """Make a run folder with its keys; `run.json` comes last, so that a folder with it is complete.

    Raises:
        InputError: not writable, or in use; nothing is left of it.
    """
    check_new(path)
    folder, facts = RunFolder(path), canonical_json(dict(started))
    made, written = [part for part in (path, *path.parents) if not part.exists()], list[Path]()
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_key(SigningKey.generate(), folder.key_file)
        written.append(folder.key_file)
        if identities is not None:
            identities.save(folder.identities_file)
            written.append(folder.identities_file)
        folder.write(folder.run_file.name, facts)
    except (OSError, InputError) as error:
        for file in written:
            with suppress(OSError):
                file.unlink()
        for part in made:
            with suppress(OSError):
                part.rmdir()
        raise InputError(f"`--out` must be writable, got {_shown(path)}: {_reason(error)}") from None
    return folder


def _shown(path: Path) -> str:
    """A path, fit for a message."""
    text = repr(str(path))
    return text if len(text) < 120 else f"{text[:100]}...'"


def _reason(error: Exception) -> str:
    """What the system said."""
    return getattr(error, "strerror", None) or str(error)
