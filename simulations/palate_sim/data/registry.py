"""Registry: named data sets, with their addresses and terms; and `load`, for a name or anything local.

`palate simulate --data NAME|PATH` and `palate data list|get|describe` call this module.

    >>> [dataset.name for dataset in list_datasets()][:3]
    ['movielens-small', 'complete-journey', 'ml-100k']
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from os import PathLike
from pathlib import Path

import pandas as pd

from palate_core.errors import InputError
from palate_sim.data import shipped
from palate_sim.data.columns import ColumnMap, show
from palate_sim.data.download import Remote, Say, fetch, say_to_stderr
from palate_sim.data.layouts import read_folder
from palate_sim.data.log import InteractionLog
from palate_sim.data.readers import IN_MEMORY, Source, Workspace, read_log
from palate_sim.data.sources import is_pattern


@dataclass(frozen=True)
class Dataset:
    """A named set.

    Attributes:
        name: its name on the command line.
        about: what it is, with its size as published.
        terms: the terms under which its publisher gives it away.
        homepage: where its publisher describes it.
        remotes: its files, for a set to download.
        shipped: its loader, for a set that comes with the extra `demo-data`.
    """

    name: str
    about: str
    terms: str
    homepage: str
    remotes: tuple[Remote, ...] = ()
    shipped: Callable[[], InteractionLog] | None = None

    @property
    def source(self) -> str:
        """Where to get it: a pip command or an address."""
        return "pip install 'palate[demo-data]'" if self.shipped else self.remotes[0].url


def _datasets() -> Iterator[Dataset]:
    """The sets of `datasets.toml`."""
    table = tomllib.loads((resources.files("palate_sim.data") / "datasets.toml").read_text(encoding="utf-8"))
    for name, facts in table.items():
        files = (Remote(**{**each, "members": tuple(each.get("members", ()))}) for each in facts.pop("remotes", ()))
        loader = facts.pop("shipped", None)
        yield Dataset(name, **facts, remotes=tuple(files), shipped=None if loader is None else getattr(shipped, loader))


_DATASETS = tuple(_datasets())
_BY_NAME = {dataset.name: dataset for dataset in _DATASETS}


def list_datasets() -> tuple[Dataset, ...]:
    """Every named data set, the ones that need no download first."""
    return _DATASETS


def dataset(name: str) -> Dataset:
    """What is known about a named set.

    Raises:
        InputError: no set has that name.
    """
    if name not in _BY_NAME:
        raise InputError(f"`data` must be one of {', '.join(_BY_NAME)}, got {show(name)}")
    return _BY_NAME[name]


def get(name: str, *, say: Say = say_to_stderr) -> Path | None:
    """Make sure that a named set is on this machine.

    Args:
        name: the set.
        say: called with one line for each download and for each pinned checksum.

    Returns:
        The folder with its files, or None for a set that comes with an installed package.

    Raises:
        InputError: no set has that name, it can't be downloaded, or its package is not installed.
        IntegrityError: what came is not the published file.
    """
    known = dataset(name)
    if known.shipped:
        known.shipped()
        return None
    return fetch(name, known.remotes, say, terms=known.terms)


def is_place(source: object) -> bool:
    """Whether a source is a path or a pattern, rather than the name of a set."""
    return is_pattern(source) or (isinstance(source, (str, PathLike)) and is_local(source))


def is_local(source: str | PathLike[str]) -> bool:
    """Whether a file or folder of that name exists; False for a name that no file can have."""
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False


def load(
    source: Source,
    *,
    columns: ColumnMap | None = None,
    say: Say = say_to_stderr,
    workspace: Workspace = IN_MEMORY,
) -> InteractionLog:
    """Load a log by name or from anything local.

    Args:
        source: a data frame; a file; a folder of a known layout; or the name of a set, downloaded if need be. A file or
            folder of that name in the working directory comes first.
        columns: explicit columns, see `read_log`; for a frame, a file or a folder.
        say: called with one line for each download.
        workspace: how it is read.

    Raises:
        InputError: it is none of these, or can't be read.
        IntegrityError: a download is not the published file.
    """
    if isinstance(source, pd.DataFrame):
        return read_log(source, columns=columns, workspace=workspace)
    if not isinstance(source, (str, PathLike)):
        raise InputError(f"`data` must be a name, a path or a data frame, got {type(source).__name__}")
    if is_pattern(source):
        return read_log(source, columns=columns, workspace=workspace)
    path, there = Path(source), is_local(source)
    if there and path.is_dir():
        return read_folder(path, columns=columns, workspace=workspace)
    if isinstance(source, PathLike) or there or source not in _BY_NAME:
        if not there and len(path.parts) == 1 and not path.suffix:
            raise InputError(
                f"`data` must be a file, a folder or one of {', '.join(_BY_NAME)}, got {show(str(source))}"
            )
        return read_log(path, columns=columns, workspace=workspace)
    known = _BY_NAME[source]
    if columns:
        raise InputError(f"`columns` must be left out for a named set, got {', '.join(columns)} for {source}")
    if known.shipped:
        log = known.shipped()
    else:
        place = fetch(source, known.remotes, say, terms=known.terms)
        log = read_folder(place, name=source, workspace=workspace)
    return replace(log, name=source, terms=known.terms)
