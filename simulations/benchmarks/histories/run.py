"""Histories: what an imported history is worth, whether its titles are found, and what reading it costs.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/histories/run.py
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import DELTA, METRIC, ML_1M, prepared_of, rehearsed
from benchmarks.sheet import Part, Table, cell, main
from palate_client.device import open_device
from palate_common.models.item_matching import ItemMatcher, split_title
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_sim.evaluation.sampling import some_heldout

ROWS, EPSILON, USERS, PURPOSE, LENGTH = 100_000, 5.0, 200, 40, 20
TRUTH = Path(__file__).parent / "truth.csv"
PROTOCOL = f"eps {EPSILON:g}, delta {DELTA:g}, unit user, adjacency zero-out; rehearsals; test users once"


def facts_of(path: Path, encoding: str) -> list[ItemFacts]:
    """The films of a log's `movies.dat`."""
    found = []
    for line in path.read_text(encoding).splitlines():
        item, label, _ = line.split("::")
        title, year, alternatives = split_title(label)
        found.append(ItemFacts(item, title, year, alternatives))
    return found


def matching(data: Path, seeds: int) -> Any:
    """MovieTweetings' titles, which are IMDb's, among those of MovieLens 1M, beside a truth that was read by hand."""
    del seeds
    films = ItemMatcher(facts_of(data / "ml-1m" / "movies.dat", "latin-1"))
    rows = {each.item: each for each in facts_of(data / "movietweetings-100k" / "movies.dat", "utf-8")}
    truth = list(csv.DictReader(TRUTH.read_text().splitlines()))
    found: dict[str, Any] = {}
    for way in ("title and year", "title"):
        right = wrong = several = 0
        for each in truth:
            row, its = rows[each["movietweetings"]], each["ml_1m"]
            match = films.match(row.title, row.year if way != "title" else None, alternatives=row.alternatives)
            several += match.how == "several"
            right += match.item is not None and match.item == its
            wrong += match.item is not None and match.item != its
        there = sum(each["ml_1m"] != "" for each in truth)
        found[way] = {"right": right, "wrong": wrong, "several": several, "there": there, "rows": len(truth)}
    return found


def matching_tables(figures: Any) -> list[Table]:
    """Precision and recall."""
    rows = [
        (
            way,
            f"{each['right'] / (each['right'] + each['wrong']):.3f}",
            f"{each['right'] / each['there']:.3f}",
            str(each["wrong"]),
            "no" if way != "title" else "yes",
        )
        for way, each in figures.items()
    ]
    there, n = (figures["title and year"][name] for name in ("there", "rows"))
    note = (
        f"{n} films of MovieTweetings up to 2001, drawn at random, of which {there} are in MovieLens 1M, read by hand."
    )
    return [Table("Titles that are found", ("by", "precision", "recall", "wrong", "asks the person"), rows, note)]


def spotify(path: Path) -> Path:
    """A listener's ten years."""
    begin = datetime(2015, 1, 1, tzinfo=UTC)
    plays = (
        {
            "ts": f"{begin + timedelta(minutes=47 * n):%Y-%m-%dT%H:%M:%SZ}", "platform": "android",
            "ms_played": 214_000 - n % 50_000, "conn_country": "FR", "ip_addr": "192.0.2.1",
            "master_metadata_track_name": f"Track {n % 9000}",
            "master_metadata_album_artist_name": f"Artist {n % 9000 % 700}",
            "master_metadata_album_album_name": "Album", "spotify_track_uri": f"spotify:track:{n % 9000:022d}",
            "episode_name": None, "episode_show_name": None, "spotify_episode_uri": None, "audiobook_title": None,
            "audiobook_uri": None, "reason_start": "trackdone", "reason_end": "trackdone", "shuffle": False,
            "skipped": False, "offline": False, "offline_timestamp": 1_761_173_807, "incognito_mode": False,
        }
        for n in range(ROWS)
    )  # fmt: skip
    path = path / "Streaming_History_Audio_2015-2025_0.json"
    path.write_text(json.dumps(list(plays)), "utf-8")
    return path


def netflix(path: Path) -> Path:
    """A household's account that is older than the service."""
    days = ((n, date(2012, 1, 1) + timedelta(days=n // 20)) for n in range(ROWS))
    lines = (f'"Film {n % 9000}: Season 1: Episode {n}","{day:%d/%m/%Y}"\n' for n, day in days)
    path = path / "NetflixViewingHistory.csv"
    path.write_text("".join(("Title,Date\n", *lines)), "utf-8")
    return path


FILES = {"Spotify, extended": spotify, "Netflix": netflix}


def reading(data: Path, seeds: int) -> Any:
    """CPU time and memory of a preview of 100,000 rows, and of storing it, each in a process of its own."""
    del data
    found = []
    for name, made in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = made(Path(folder))
            for _ in range(seeds):
                asked = [sys.executable, __file__, "--read", str(path)]
                told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
                found.append({"file": name, "bytes": path.stat().st_size, **json.loads(told)})
    return found


def read(path: Path) -> dict[str, Any]:
    """Preview and store one file."""
    songs = (ItemFacts(f"s{n}", f"Artist {n % 700} - Track {n}", ids={"spotify": f"{n:022d}"}) for n in range(8000))
    table = ItemTable.of((*songs, *(ItemFacts(f"f{n}", f"Film {n}", 2000) for n in range(6000))))
    with tempfile.TemporaryDirectory() as folder, open_device(folder, app="bench", key=bytes(32)) as device:
        device.consent.grant("store")
        before, began = most_memory(), time.process_time()
        preview = device.import_history(path, table=table)
        seen = time.process_time()
        stored = preview.store(preview.to_confirm).stored
        return {
            "preview": seen - began,
            "store": time.process_time() - seen,
            "stored": stored,
            "MiB": most_memory() - before,
        }


def most_memory() -> float:
    """MiB of this process at most, so far; `getrusage` has its parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def reading_tables(figures: Any) -> list[Table]:
    """A row a file."""
    rows = []
    for name in dict.fromkeys(each["file"] for each in figures):
        own = [each for each in figures if each["file"] == name]
        cells = (cell([each[what] for each in own], 2) for what in ("preview", "store", "MiB"))
        rows.append((name, f"{own[0]['bytes'] / 1e6:.1f} MB", *cells, f"{own[0]['stored']:,}"))
    header = ("file", "size", "preview, CPU-s", "storing, CPU-s", "MiB beside the device", "events stored")
    note = "Bars: 3 CPU-s for a preview, and 100 MiB. A table of 14,000 items."
    return [Table(f"Reading {ROWS:,} rows", header, rows, note)]


def quality(data: Path, seeds: int) -> Any:
    """Lists of new users of MovieLens 1M, without anything and after their history came as a file of Letterboxd's."""
    found = []
    films = {each.item: each for each in facts_of(data / "ml-1m" / "movies.dat", "latin-1")}
    for seed in range(seeds):
        prepared = prepared_of(ML_1M, data, seed)
        split = prepared.split
        test = some_heldout(split.test, USERS, seed=seed, purpose=PURPOSE)
        model = rehearsed(split.train, epsilon=EPSILON, seed=seed, inputs=prepared.inputs)
        items = tuple(map(str, split.items))
        table = ItemTable.of(films.get(item, ItemFacts(item)) for item in items)
        values: dict[str, list[float]] = {"cold": [], "imported": [], "found": []}
        with (
            tempfile.TemporaryDirectory() as folder,
            open_device(f"{folder}/store", app="bench", key=bytes(32), preset="movies") as device,
        ):
            device.consent.grant("store")
            device.use_model(model, items)
            for user in range(test.foldin.n_users):
                own = [items[row] for row in test.foldin.items_of(user)]
                wanted = {items[row] for row in test.target.items_of(user)}
                path = Path(folder, "diary.csv")
                path.write_text("".join(diary(own, films)), "utf-8")
                cold = [each.item for each in device.recommend(LENGTH, explore=0.0, filter_items=own)]
                report = device.import_history(path, table=table).store()
                warm = [each.item for each in device.recommend(LENGTH, explore=0.0, filter_items=own)]
                for name, listed in (("cold", cold), ("imported", warm)):
                    values[name].append(len(wanted.intersection(listed)) / min(LENGTH, len(wanted)))
                values["found"].append(report.stored / len(own))
                if report.id is not None:
                    device.forget_import(report.id)
        found.append({name: float(np.mean(each)) for name, each in values.items()})
    return found


def diary(items: list[str], films: dict[str, ItemFacts]) -> Iterator[str]:
    """The file, with titles as Letterboxd writes them: articles in front, no brackets."""
    yield "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date\n"
    for n, item in enumerate(items):
        name, comma, article = films[item].title.rpartition(", ")
        title = f"{article} {name}" if comma and article in ("The", "A", "An") else films[item].title
        yield f'2023-01-01,"{title}",{films[item].year},https://boxd.it/{n},,,,2023-01-01\n'


def quality_tables(figures: Any) -> list[Table]:
    """A row for each way to begin."""
    cold, imported, found = ([each[name] for each in figures] for name in ("cold", "imported", "found"))
    gain = cell([a - b for a, b in zip(imported, cold, strict=True)])
    rows = [("nothing", cell(cold)), ("a history of Letterboxd", cell(imported))]
    note = f"{USERS} test users a seed; the gain is {gain}, paired by seed; {cell(found, 3)} of their films were found."
    return [Table(f"Lists of a new user, MovieLens 1M: {METRIC}", ("begins with", METRIC), rows, note)]


PARTS = {
    "quality": Part(quality, quality_tables),
    "matching": Part(matching, matching_tables, seeds="none"),
    "reading": Part(reading, reading_tables),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        sys.stdout.write(json.dumps(read(Path(sys.argv[2]))))
    else:
        main(__doc__, PARTS, Path(__file__).parent, seeds=3, protocol=PROTOCOL)
