"""What the audit of a server folder reads beside its ledger: configuration, keys, published models, runs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palate_audit.run.live import LiveLedger
from palate_audit.run.run_records import RunRecords
from palate_common.models import published
from palate_core.errors import InputError, PalateError
from palate_core.log.signing import SigningKey, verify
from palate_server.ledger.history import Entry, HandoverEntry

CONFIG, LEDGER = "server.toml", "ledger.db"


@dataclass(frozen=True)
class ServerRecords:
    """The files of a server folder beside its ledger.

    Attributes:
        folder: the server folder.
        live: its ledger.
        pinned: the operator's public key from outside; None takes the one that the folder itself names.
    """

    folder: Path
    live: LiveLedger
    pinned: str | None

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration as it is written; {} if it can't be read."""
        try:
            return tomllib.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @cached_property
    def key(self) -> str | None:
        """The public key that the folder's signatures must be by."""
        if self.pinned is not None:
            return self.pinned
        named = [self._named(folder) for folder in self.models]
        told = [key for key in named if key]
        if told:
            return max(set(told), key=told.count)
        try:
            return SigningKey.from_pem((self.folder / "key").read_bytes()).public
        except (OSError, InputError):
            return None

    @cached_property
    def keys(self) -> list[str]:
        """The release keys that the ledger was handed over along, oldest first; the one alone if there was no handover.

        Replaying the ledger has checked that each handover goes on from the one before, signed by both keys.
        """
        handovers = self.entries(HandoverEntry)
        lost = max((place for place, each in enumerate(handovers) if not each.old_signature), default=-1)
        handovers = handovers[lost + 1 :]
        chain = [each.old_key for each in handovers[:1]] + [each.new_key for each in handovers]
        return chain if self.key in chain else [self.key or ""]

    def among(self, named: object) -> str:
        """A key that something names, if it is one of the release keys; else the present one, which won't fit."""
        return str(named) if named in self.keys else self.keys[-1]

    @staticmethod
    def _named(folder: Path) -> str | None:
        """The key that a manifest names, if it is signed by it."""
        try:
            data = (folder / published.MANIFEST).read_bytes()
            key = str(json.loads(data)["public_key"])
            verify(key, published.MANIFEST_TAG, data, (folder / published.SIGNATURE).read_text("ascii"))
        except (OSError, ValueError, KeyError, TypeError, PalateError):
            return None
        return key

    @cached_property
    def models(self) -> list[Path]:
        """The folders of published models."""
        place = self.folder / "public" / "models"
        found = sorted(place.iterdir()) if place.is_dir() else []
        return [path for path in found if path.is_dir() and not path.name.startswith(".")]

    @cached_property
    def runs(self) -> dict[str, RunRecords]:
        """The records of each run that the ledger opened."""
        names = dict.fromkeys(entry.run for entry in self.live.entries if entry.kind == "open")
        return {name: self._run(name) for name in names}

    def _run(self, name: str) -> RunRecords:
        own = [entry for entry in self.live.entries if getattr(entry, "run", None) == name]
        return RunRecords(self.folder / "runs" / name, name, self.population, own, None, self.live)

    @cached_property
    def population(self) -> str:
        """Whose ledger it is."""
        first = next((entry for entry in self.live.entries if entry.kind == "population"), None)
        return str(getattr(first, "population", "unknown"))

    def entries(self, kind: type[Entry]) -> list[Any]:
        """The ledger's entries of a kind."""
        return [entry for entry in self.live.entries if isinstance(entry, kind)]
