"""Draft: the private folder in which a log that is too large for memory is prepared, for one run alone.

    CACHE/prepared/NAME/    train/ validation/ test/ as `histories` writes them, and rows while they are read

It goes with the last reference to it.
"""

from __future__ import annotations

from pathlib import Path

from palate_core.errors import InputError
from palate_sim.data.columns import show
from palate_sim.data.download import cache_dir
from palate_sim.data.events import when_gone
from palate_sim.scratch import remove, scratch_folder


class Draft:
    """A folder that is made when it is first asked for.

    Args:
        cache: the configured folder for drafts; None: the user's cache.

    Raises:
        InputError: no folder can have that name.
    """

    def __init__(self, cache: str | None) -> None:
        if cache is not None and "\0" in cache:
            raise InputError(f"`data.cache` must be the name of a folder, got {show(cache)}")
        self._parent = (cache_dir() if cache is None else Path(cache)) / "prepared"
        self._path: Path | None = None

    def path(self) -> Path:
        """The folder.

        Raises:
            OSError: it can't be made.
        """
        if self._path is None:
            self._parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path, lock = scratch_folder(self._parent)
            self._removal = when_gone(self, remove, self._path, lock)
        return self._path

    def discard(self) -> None:
        """Remove the folder, if there is one, whoever still refers to it."""
        if self._path is not None:
            self._removal()
            self._path = None
