"""What a message of 64 MiB costs whoever reads it, at every door of server and device.

    PYTHONPATH=simulations python simulations/benchmarks/doors/run.py [--parts large]

Each message is read in a process of its own, forked when the world is made, so that its peak is its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.doors.doors import Door, Frame, doors, kinds
from benchmarks.sheet import Part, Table, main
from palate_core.errors import PalateError

SIZE = 2**26
CPU, MEMORY = 1.0, 3.0
"""The bar: CPU-seconds, and times the message's size, the message included."""


def large(_: Path, __: int) -> Any:
    """Every kind of message, in every frame, at every door."""
    with doors() as every:
        for door in every:
            door.takes(b"")  # what is loaded or made at the first call isn't a message's
        found: list[list[Sequence[Any]]] = [[] for _ in every]
        for kind, make in kinds(SIZE).items():
            raw = make()
            for door, measured in zip(every, found, strict=True):
                for at, frame in enumerate(door.frames):
                    measured.append([kind, at, *_measured(door, frame, raw)])
            sys.stderr.write(f"{kind}\n")
    return [
        {"side": door.side, "door": door.name, "messages": measured}
        for door, measured in zip(every, found, strict=True)
    ]


def large_tables(figures: Any) -> list[Table]:
    """One row a door, of its dearest messages: each is its kind, its frame, seconds, times its size, and if taken."""
    rows = []
    for door in figures:
        seconds, times, taken = zip(*(each[2:] for each in door["messages"]), strict=True)
        met = max(seconds) <= CPU and max(times) <= MEMORY and not any(taken)
        refused = len(taken) - sum(taken)
        rows.append(
            (door["side"], door["door"], str(len(taken)), str(refused), f"{max(seconds):.2f}",
             f"{max(times):.1f}", "met" if met else "MISSED")
        )  # fmt: skip
    header = ("side", "door", "messages", "refused", "CPU-seconds, at most", "times its size, at most", "bar")
    note = (
        "Zeros, JSON of small members, deep nesting, one string, one string with a character of four bytes, digits, "
        "line feeds, fields of Protocol Buffers, empty embedded messages and noise; each alone, behind a whole valid "
        "message, and inside the frame that brings it further in. Of a deflated file the size is the inflated one's. "
        "Memory is the peak resident size while it is read, the message included. "
        f"The bar is {CPU:g} CPU-second and {MEMORY:g} times."
    )
    return [Table("Messages of 64 MiB", header, rows, note)]


def _measured(door: Door, frame: Frame, raw: bytes) -> Sequence[Any]:
    """One message in a forked process: CPU-seconds, memory as times its size, and whether it was taken."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writing, json.dumps(_read(door, frame, raw)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if not said:
        raise PalateError(f"a door must take or refuse a message, got an end: {door.name}")
    found: list[Any] = json.loads(said)
    return found


def _read(door: Door, frame: Frame, raw: bytes) -> Sequence[Any]:
    """Read it, in this process."""
    message = frame(raw)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, began = _kib("VmRSS"), time.process_time()
    taken = door.takes(message)
    seconds, more = time.process_time() - began, (_kib("VmHWM") - before) * 1024
    return [round(seconds, 4), round((len(message) + more) / SIZE, 4), taken]


def _kib(name: str) -> int:
    """A line of this process's status, in KiB."""
    lines: Sequence[str] = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


PARTS = {"large": Part(large, large_tables)}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
