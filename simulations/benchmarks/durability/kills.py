"""Kills: a device is killed (SIGKILL) at a random moment of its work; then what it left is judged.

victims.py (imports once) --fork--> victim: opens its copy of a store, works, tells what is acknowledged
harness: waits for a random number of acknowledgements and a random while, kills, opens the store and judges it
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.durability.judges import JUDGES, Scene, damage
from benchmarks.durability.victims import BOUND, LIMITS, opened
from benchmarks.durability.world import World, copied, made

FIVE = ("track", "feedback", "update_model", "contribute", "erase")
BESIDE = ("batch", "import", "retention")
SECONDS = {"erase": 0.04, "import": 0.4, "retention": 0.15}
"""The longest a victim is let live after its first sign of life, or its last awaited acknowledgement."""
USUAL, AWAITED = 0.03, 6
AWAITING = ("track", "feedback", "update_model", "contribute", "batch")
"""Tasks whose victims first do something: up to so many acknowledgements are waited for."""


@dataclass
class Judgement:
    """What was found after the kills.

    Attributes:
        kills: by task, how many victims there were.
        midway: by task, how many died before they were done.
        acknowledged: by task, how many acknowledgements there had been.
        wrong: what must not be, in words; empty if every promise was kept.
    """

    kills: Counter[str] = field(default_factory=Counter)
    midway: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def as_figures(self) -> dict[str, Any]:
        """For the record."""
        counters = {"kills": self.kills, "midway": self.midway, "acknowledged": self.acknowledged}
        return {**{name: dict(counter) for name, counter in counters.items()}, "wrong": self.wrong}


def judge(kills: int, *, tasks: tuple[str, ...], seed: int = 0) -> Judgement:
    """Kill so many victims, the tasks in turn, and judge each store."""
    rng, judgement = random.Random(seed), Judgement()  # noqa: S311 # when to kill is no secret
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        world = made(home)
        with _server() as (ask, tell):
            for number in range(kills):
                task, folder = tasks[number % len(tasks)], home / f"store-{number}"
                copied(world, folder)
                asked = {"task": task, "run": str(number), "folder": str(folder), "job": world.job(task)}
                awaited = rng.randint(0, AWAITED) if task in AWAITING else 0
                said = _killed(ask, tell, asked, awaited, rng.uniform(0, SECONDS.get(task, USUAL)))
                _judge_one(judgement, world, task, folder, said)
                shutil.rmtree(folder)
    return judgement


@contextmanager
def _server() -> Iterator[tuple[IO[str], IO[str]]]:
    """A process that forks victims."""
    script = Path(__file__).with_name("victims.py")
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the server must have pipes")
    with process:
        yield process.stdin, process.stdout
        process.stdin.close()


def _killed(ask: IO[str], tell: IO[str], asked: dict[str, Any], awaited: int, seconds: float) -> list[str]:
    """What a victim said before it died."""
    ask.write(f"{json.dumps(asked)}\n")
    said, victim, begun = list[str](), 0, False
    while not victim or not ((begun and len(said) >= awaited) or _is_over(said)):
        word = tell.readline().strip()
        if word.startswith("pid "):
            victim = int(word[4:])
        elif word == "begin":
            begun = True
        else:
            said.append(word)
    time.sleep(seconds)
    os.kill(victim, signal.SIGKILL)
    ask.write("reap\n")
    said += [word for word in iter(lambda: tell.readline().strip(), "dead") if word != "begin"]
    return said


def _is_over(said: list[str]) -> bool:
    """Whether there will be no further word."""
    return bool(said) and said[-1].startswith("failed ")


def _judge_one(judgement: Judgement, world: World, task: str, folder: Path, said: list[str]) -> None:
    """Compare a store with what its victim was told."""
    judgement.kills[task] += 1
    judgement.acknowledged[task] += len(said)
    judgement.midway[task] += _is_midway(task, world, said)
    if _is_over(said):
        judgement.wrong.append(f"{task}: {said[-1]}")
        return
    before = frozenset(path.name for path in folder.iterdir())
    judged: Callable[[Scene], list[str]] = JUDGES[task]
    try:
        with opened(folder, world.public_key, BOUND if task == "retention" else LIMITS) as device:
            scene = Scene(world, device, said, before)
            found = damage(scene) or judged(scene)
    except Exception as error:  # whatever it is, it must not be
        found = [f"can't be judged: {error!r}"]
    judgement.wrong += [f"{task}: {each}" for each in found]


def _is_midway(task: str, world: World, said: list[str]) -> bool:
    """Whether it died before it was done."""
    if task in ("erase", "import"):
        return not said
    most = {"update_model": len(world.job(task).get("models", ())), "contribute": len(world.plan_hashes)}
    return len(said) < most.get(task, 10**9)
