"""Kills: a process is killed (SIGKILL) at a random moment while it tracks, imports or erases; then the store is judged.

    server (imports palate once) --fork--> victim: opens the store, works, tells each acknowledged event
    harness: waits a random while, kills the victim, opens the store and compares

A victim that is killed while it erases leaves either the whole store or an empty one, and no key of an old copy.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import palate

KEY = bytes(range(32))
TASKS = {"track": 0.030, "batch": 0.060, "import": 0.250, "erase": 0.150}
"""What a victim does, and the longest it is let live, in seconds from its first sign of life."""
LINES = 4000
KEPT = 300

SERVER = """
import os, signal, sys
import palate

def work(task, run, folder):
    device = palate.open(folder, app="kills", key=bytes(range(32)), limits=palate.Limits(max_per_day=10**9))
    device.consent.grant("store")
    os.write(1, b"begin\\n")
    if task == "track":
        for n in range(10**9):
            if device.track("view", f"item-{n % 97}", id=f"{run}-{n}"):
                os.write(1, f"{run}-{n}\\n".encode())
    elif task == "batch":
        for n in range(0, 10**9, 100):
            ids = [f"{run}-{m}" for m in range(n, n + 100)]
            if all(device.track_many([palate.Event("view", "item", id=id) for id in ids])):
                os.write(1, "".join(f"{id}\\n" for id in ids).encode())
    elif task == "import":
        report = device.import_jsonl(f"{folder}.jsonl")
        os.write(1, f"imported {report.stored}\\n".encode())
    elif task == "erase":
        device.erase()
        os.write(1, b"erased\\n")

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            work(*line.rstrip().split(" ", 2))
        except BaseException as error:
            os.write(1, f"failed {error!r}\\n".encode())
        os._exit(0)
    os.write(1, f"pid {child}\\n".encode())
    sys.stdin.readline()  # until then the number is the victim's, dead or alive
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


@dataclass
class Judgement:
    """What was found after the kills.

    Attributes:
        kills: by task, how many victims there were.
        midway: by task, how many died before they were done.
        acknowledged: events that a victim was told are stored.
        wrong: what must not be, in words; empty if every promise was kept.
    """

    kills: Counter[str] = field(default_factory=Counter)
    midway: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)


def judge(kills: int, *, seed: int = 0) -> Judgement:
    """Kill so many victims, the tasks in turn, and judge each store."""
    rng, judgement, tasks = random.Random(seed), Judgement(), [*TASKS]  # noqa: S311 # when to kill is no secret
    with tempfile.TemporaryDirectory() as home, _server() as (ask, tell):
        for number in range(kills):
            task = tasks[number % len(tasks)]
            folder = Path(home) / f"store-{task}" / str(number if task in ("import", "erase") else 0)
            folder.parent.mkdir(exist_ok=True)
            _prepare(task, folder)
            said = _kill(ask, tell, f"{task} {number} {folder}\n", rng.uniform(0, TASKS[task]))
            judgement.kills[task] += 1
            _judge_one(judgement, task, folder, said)
            if task in ("import", "erase"):
                shutil.rmtree(folder)
    return judgement


@contextmanager
def _server() -> Iterator[tuple[IO[str], IO[str]]]:
    """A process that forks victims."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server must have pipes")
    with process:
        yield process.stdin, process.stdout
        process.stdin.close()


def _prepare(task: str, folder: Path) -> None:
    """What a victim finds."""
    if task == "import":
        lines = [{"kind": "purchase", "item": f"item-{n}", "time": 10**9 + n, "id": str(n)} for n in range(LINES)]
        Path(f"{folder}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    elif task == "erase":
        with _open(folder) as device:
            device.consent.grant("store")
            device.track_many([palate.Event("like", f"secret-{n}", id=str(n)) for n in range(KEPT)])


def _kill(ask: IO[str], tell: IO[str], request: str, seconds: float) -> list[str]:
    """What a victim said before it died."""
    ask.write(request)
    said, victim, begun = list[str](), 0, False
    while not (victim and begun):
        word = tell.readline().strip()
        if word.startswith("pid "):
            victim = int(word[4:])
        else:
            begun = True
            said += [word] if word != "begin" else []
    time.sleep(seconds)
    os.kill(victim, signal.SIGKILL)
    ask.write("reap\n")
    said += iter(lambda: tell.readline().strip(), "dead")
    return said


def _open(folder: Path) -> palate.Device:
    """The store as the next start of the app finds it."""
    return palate.open(folder, app="kills", key=KEY, limits=palate.Limits(max_per_day=10**9))


def _judge_one(judgement: Judgement, task: str, folder: Path, said: list[str]) -> None:
    """Compare a store with what its victim was told."""
    wrong = judgement.wrong
    if said and said[0].startswith("failed "):
        wrong.append(f"{task}: {said[0]}")
        return
    before = set(folder.glob("*.db"))
    with _open(folder) as device:
        ids = [event.id for event in device.store.events()]
        with device.store.transaction() as connection:
            damage = [row[0] for row in connection.execute("PRAGMA cipher_integrity_check").fetchall()]
            damage += [row[0] for row in connection.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"]
        if task == "import" and not damage:
            device.import_jsonl(f"{folder}.jsonl")
            again = [event.id for event in device.store.events()]
            if sorted(again) != sorted(map(str, range(LINES))):
                wrong.append(f"import: {LINES} lines must be stored once, got {len(again)} events")
    wrong += [f"{task}: damaged, {each}" for each in damage[:1]]
    if len(ids) != len(set(ids)):
        wrong.append(f"{task}: {len(ids) - len(set(ids))} events are stored twice")
    if task in ("track", "batch"):
        judgement.acknowledged += len(said)
        lost = set(said) - set(ids)
        if lost:
            wrong.append(f"{task}: {len(lost)} of {len(said)} acknowledged events are lost")
        judgement.midway[task] += 1
    elif task == "import":
        judgement.midway[task] += not said
        if (said and len(ids) != LINES) or len(ids) % 1000:
            wrong.append(f"import: whole batches must be there, got {len(ids)} events and {said}")
    else:
        judgement.midway[task] += not said
        kept = before & set(folder.glob("*.db"))
        if len(ids) not in (0, KEPT) or (said and (ids or kept)):
            wrong.append(f"erase: all or nothing must be left, got {len(ids)} events and {said}")


def as_figures(judgement: Judgement) -> dict[str, Any]:
    """For results.json."""
    return {
        "kills": dict(judgement.kills),
        "midway": dict(judgement.midway),
        "acknowledged": judgement.acknowledged,
        "wrong": judgement.wrong,
    }
