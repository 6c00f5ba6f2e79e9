"""Starter: a published model of a public log, in a folder with the key that signed it, to start with.

folder of `palate starter build` -> Starter -> service and folder for a device, a panel for a server
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate_client.service import Service
from palate_core.errors import InputError, IntegrityError

if TYPE_CHECKING:
    from palate_common.models.published import Published

KEY_FILE = "public-key"
"""The public half of the key that signed the folder's model."""
MOST_KEY = 256
"""Bytes of that file at most."""


@dataclass(frozen=True)
class Starter:
    """A model to start with.

    Attributes:
        folder: the published model, for `Device.update_model`, with the key that signed it.
    """

    folder: Path

    @cached_property
    def service(self) -> Service:
        """The service whose model it is; it takes part in no round.

        Raises:
            IntegrityError: as for `published`.
        """
        population = self.published.manifest.population
        return Service(public_key=self._public_key, population=population, participations=0)

    @cached_property
    def published(self) -> Published:
        """The model with its items and their titles.

        Raises:
            IntegrityError: a file is missing, changed or not signed by the folder's key.
        """
        from palate_common.models import published

        return published.read(self.folder, public_key=self._public_key, small=True)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What it was made of: source, licence, command, seed, counts, the log's hash, and what it says of privacy."""
        found: Mapping[str, Any] = (self.published.manifest.model_extra or {}).get("provenance", {})
        return found

    def item(self, title: str) -> str:
        """The id of the item that a title such as "Toy Story (1995)" means.

        Raises:
            InputError: it means none, or one of several.
        """
        from palate_common.models.item_matching import ItemMatcher, split_title

        name, year, others = split_title(title)
        table = self.published.table
        found = None if table is None else ItemMatcher(table).match(name, year, alternatives=others).item
        if found is None:
            raise InputError(f"`title` must be of one item of the starter, got {title!r:.80}")
        return found

    @cached_property
    def _public_key(self) -> str:
        from palate_common.models.manifest import read_file

        try:
            return read_file(self.folder / KEY_FILE, most=MOST_KEY).decode("ascii").strip()
        except (IntegrityError, UnicodeDecodeError):
            raise InputError(f"a starter must be a folder of `palate starter build`, got {self.folder}") from None
