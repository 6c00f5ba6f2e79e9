"""Film archives: made ratings in the exact layouts of MovieLens 10M and 20M, zipped as at their address.

MovieLens may not be passed on, and is not always at hand: what is measured or tested for its layout and its size is
measured on these. Who has rated what comes from `long_log`, each film once a user and at least 20 films; how many stars
from a film's quality, a user's kindness and chance, so that about half of the ratings are four stars or more. Lines are
ordered by user and then by film, film ids have gaps, some titles have commas, quotes and accents.

    PYTHONPATH=simulations python -m benchmarks.worlds.film_archives ml-20m 138493 27278 20000263 PATH/ml-20m.zip

The numbers are of users, films and, nearly, ratings. Equal numbers and seeds give equal files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = write("ml-10m", Path(folder) / "ml-10m.zip", users=30, films=640, ratings=1500)
    ...     zipfile.ZipFile(Path(folder) / "ml-10m.zip").namelist()
    ['ml-10M100K/movies.dat', 'ml-10M100K/ratings.dat']
"""

from __future__ import annotations

import csv
import io
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]  # it ships no types

from benchmarks.worlds import long_log

LEAST = 20
"""Films of a user, at least, as in MovieLens."""
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller", "War")
MIDDLE, QUALITY, KINDNESS, CHANCE = 3.7, 0.45, 0.4, 0.8
"""Mean stars, and standard deviations of a film's, a user's and a rating's part in them."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How an archive is laid out.

    Attributes:
        folder: the folder in it.
        suffix: of its files.
        header: whether they have one.
        stars: the texts of 0.5, 1, 1.5, ... 5 stars.
    """

    folder: str
    suffix: str
    header: bool
    stars: tuple[str, ...]


LAYOUTS = {
    "ml-10m": Layout("ml-10M100K", "dat", False, tuple(f"{half / 2:g}" for half in range(1, 11))),
    "ml-20m": Layout("ml-20m", "csv", True, tuple(f"{half / 2:.1f}" for half in range(1, 11))),
}


def write(name: str, path: Path, *, users: int, films: int, ratings: int, seed: int = 0) -> int:
    """Write an archive; returns the number of its ratings, which is near the one asked for.

    Memory holds one block of users. A film may be in nobody's list.

    Args:
        name: ml-10m or ml-20m.
        path: the file, which appears under its name when it is whole.
        users: how many.
        films: in movies.dat or movies.csv.
        ratings: about how many.
        seed: of everything.
    """
    layout, rows = LAYOUTS[name], 0
    world = long_log.World(items=films, mean=_length(users, films, ratings, seed), seed=seed)
    rng = np.random.default_rng([seed, 2])
    numbers = np.cumsum(rng.integers(1, 9, films))
    quality = rng.normal(MIDDLE, QUALITY, films)
    part = path.with_name(path.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        bundle.writestr(f"{layout.folder}/movies.{layout.suffix}", _films(layout, numbers, rng))
        with bundle.open(f"{layout.folder}/ratings.{layout.suffix}", "w", force_zip64=True) as file:
            if layout.header:
                file.write(b"userId,movieId,rating,timestamp\n")
            for owners, items, times in _blocks(world, users):
                stars = _stars(owners, items, quality, np.random.default_rng([seed, 3, int(owners[0])]))
                file.write(_lines(layout, owners + 1, numbers[items], stars, times))
                rows += len(owners)
    part.replace(path)
    return rows


def _length(users: int, films: int, ratings: int, seed: int) -> float:
    """The mean length of a history with repeats that leaves so many ratings without them, by a few tries."""
    wanted = ratings / users
    mean, tried = wanted, min(users, 2 * long_log.AT_ONCE)
    for _ in range(6):
        world = long_log.World(items=films, mean=mean, seed=seed)
        found = sum(len(owners) for owners, _, _ in _blocks(world, tried)) / tried
        mean = max(mean * (wanted / found) ** 1.3, long_log.SHORTEST + 1.0)
    return mean


def _blocks(world: long_log.World, users: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Users, films and times, each pair once, by user and then by film."""
    films = len(np.unique(world.table))
    for owners, items, times in world.blocks(users):
        first, count = int(owners[0]), int(owners[-1] - owners[0]) + 1
        # LEAST further films for everybody, so that nobody has fewer.
        more = (np.arange(count)[:, None] * 7 + np.arange(LEAST) ** 2 * 13) % films
        counts = np.bincount(np.asarray(owners) - first)
        short = counts < 2 * LEAST
        keys = np.concatenate([
            owners.astype(np.int64) * films + items,
            ((np.arange(count)[short] + first)[:, None] * films + more[short]).ravel(),
        ])  # fmt: skip
        kept, places = np.unique(keys, return_index=True)
        at = np.concatenate([times, np.full(len(keys) - len(times), int(times[0]))])
        yield kept // films, kept % films, at[places]


def _stars(owners: Ints, items: Ints, quality: npt.NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """Half stars from 1 to 10 of each rating."""
    kindness = rng.normal(0, KINDNESS, int(owners[-1] - owners[0]) + 1)
    found = quality[items] + kindness[owners - owners[0]] + rng.normal(0, CHANCE, len(owners))
    return np.clip(np.rint(2 * found), 1, 10).astype(np.int64)


def _lines(layout: Layout, users: Ints, films: Ints, stars: Ints, times: Ints) -> memoryview:
    """The rows of a block as text."""
    texts = pa.array(layout.stars).take(pa.array(stars - 1))
    columns: list[Any] = [pa.array(users), pa.array(films), texts, pa.array(times)]
    if not layout.header:  # "::" is ":" beside columns of nothing
        nothing = pa.array(np.full(len(users), ""))
        columns = [column for each in columns for column in (each, nothing)][:-1]
    table = pa.table(columns, names=[str(number) for number in range(len(columns))])
    buffer = io.BytesIO()
    options = pa_csv.WriteOptions(
        include_header=False, delimiter="," if layout.header else ":", quoting_style="none", batch_size=1 << 16
    )
    pa_csv.write_csv(table, buffer, options)
    return buffer.getbuffer()


def _films(layout: Layout, numbers: Ints, rng: np.random.Generator) -> str:
    """The file of films: id, title with its year, genres by bars."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    rows = [("movieId", "title", "genres")] if layout.header else []
    for place, number in enumerate(numbers):
        chosen = rng.permutation(len(GENRES))[: rng.integers(0, 4)]
        words = "|".join(GENRES[each] for each in sorted(chosen)) or "(no genres listed)"
        article = ', The: "Nobody" & Café' if place % 5 == 0 else ""
        rows.append((str(number), f"Film {number}{article} ({1930 + place % 85})", words))
    for row in rows:
        if layout.header:
            writer.writerow(row)
        else:
            buffer.write("::".join(row) + "\n")
    return buffer.getvalue()


if __name__ == "__main__":
    which, (made, of, about), target = sys.argv[1], map(int, sys.argv[2:5]), Path(sys.argv[5])
    sys.stdout.write(f"{write(which, target, users=made, films=of, ratings=about):,} ratings\n")
