"""Starter: a small signed model that comes with the package, so that a new app's first page recommends something.

    >>> import palate
    >>> films = palate.starter("films")
    >>> device = palate.open("starter-data", app="films", key=palate.new_key(), service=films.service)
    >>> _ = device.consent.grant("store")
    >>> device.update_model(films.folder)
    True
    >>> _ = device.track("like", films.item("Toy Story (1995)"))
    >>> [device.items().titles[each.item] for each in device.recommend(2)]
    ['Toy Story 2 (1999)', 'Toy Story 3 (2010)']

A starter is the public model of a public log: `palate starter build` makes one. `films` is of 100,000 ratings of 2013
that people posted on Twitter (MovieTweetings, MIT); `sample` is of made-up readers of 160 books on eight shelves
(`book-7` and `book-15` are on the same one). Their signing keys were deleted after use, so no plan of their populations
can ever be signed, and their services take part in no round. A real app ships with the `Service` of its own server.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palate_client.starter import KEY_FILE, Starter
from palate_core.errors import InputError

FOLDERS: Mapping[str, Path] = {
    "films": Path(__file__).parent / "starter_films",
    "sample": Path(__file__).parent / "sample_model",
}
"""Name -> the published model that comes with the package."""


def starter(name: str | Path) -> Starter:
    """A model to start with.

    Args:
        name: films or sample, or the folder of another one, which is trusted as it is.

    Raises:
        InputError: there is none.
    """
    if name in FOLDERS:
        return Starter(FOLDERS[str(name)])
    if not (Path(name) / KEY_FILE).is_file():
        raise InputError(f"`starter` must be {', '.join(FOLDERS)} or a folder, got {str(name)!r:.80}")
    return Starter(Path(name))


def sample() -> Starter:
    """The model of made-up readers, for trying the SDK: `starter("sample")`."""
    return starter("sample")
