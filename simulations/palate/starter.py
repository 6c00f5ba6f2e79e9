"""Starter: a small signed model that comes with the package, so that a new app's first page recommends something.

    >>> import palate
    >>> films = palate.starter("films")
    >>> device = palate.open("starter-data", app="films", key=palate.new_key(), service=films.service)
    >>> _ = device.consent.grant("store")
    >>> device.update_model(films.folder)
    True
    >>> _ = device.track("like", films.item("Toy Story (1995)"))
    >>> [device.items().titles[each.item] for each in device.recommend(2)]
    ['Toy Story 3 (2010)', 'Toy Story 2 (1999)']

A starter is the public model of a public log: `palate starter build` makes one. `films` is of 100,000 ratings of 2013
that people posted on Twitter (MovieTweetings, MIT); `sample` is of made-up readers of 160 books on eight shelves
(`book-7` and `book-15` are on the same one). Their signing keys were deleted after use, so no plan of their populations
can ever be signed, and their services take part in no round. A real app ships with the `Service` of its own server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate_client.service import Service
from palate_core.errors import InputError

if TYPE_CHECKING:
    from palate_common.models.published import Published

FOLDERS: Mapping[str, Path] = {
    "films": Path(__file__).parent / "starter_films",
    "sample": Path(__file__).parent / "sample_model",
}
"""Name -> the published model that comes with the package."""


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
            IntegrityError: the folder's key hasn't signed it.
        """
        from palate_common.models.manifest import MANIFEST, MOST_SIGNED, SIGNATURE, read_file, read_manifest

        signed = {name: read_file(self.folder / name, most=MOST_SIGNED) for name in (MANIFEST, SIGNATURE)}
        population = read_manifest(signed, self._public_key).population
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
        try:
            return (self.folder / "public-key").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise InputError(f"a starter must be a folder of `palate starter build`, got {self.folder}") from None


def starter(name: str | Path) -> Starter:
    """A model to start with.

    Args:
        name: films or sample, or the folder of another one, which is trusted as it is.

    Raises:
        InputError: there is none.
    """
    if name in FOLDERS:
        return Starter(FOLDERS[str(name)])
    if not (Path(name) / "public-key").is_file():
        raise InputError(f"`starter` must be {', '.join(FOLDERS)} or a folder, got {str(name)!r:.80}")
    return Starter(Path(name))


def sample() -> Starter:
    """The model of made-up readers, for trying the SDK: `starter("sample")`."""
    return starter("sample")
