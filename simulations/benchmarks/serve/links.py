"""Several SuperLinks: whether two do as much a processor second as one, and what is lost with one of three.

the same devices, rounds and seeds at one SuperLink and at two -> exchanges a CPU-second, and the model's bytes
SIGKILL in an attempt, and nobody comes back until it is over  -> who is in the sum, the charges, the next round
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from palate_server.folder.places import split

from benchmarks.serve.world import World, totals
from palate_common.models import published
from palate_core.log.canonical import digest
from palate_server.folder.enrolments import Enrolments
from palate_server.operation.releases import latest_manifest

DEVICES, ROUNDS = 48, 4
LOST, LEAST = 12, 8
"""Devices of the second part, and how many of them must remain."""


def compared(superlinks: int) -> dict[str, Any]:
    """Some masked rounds of the same devices: what each SuperLink has done for how much, and the model's hash."""
    with tempfile.TemporaryDirectory() as home:
        settings = f"{{rounds = {ROUNDS}}}"
        world = World(
            Path(home), size=DEVICES, settings=settings, noise="seeded", every_hours=720.0, exchange_seconds=300.0,
            superlinks=superlinks,
        )  # fmt: skip
        world.start()
        try:
            world.wait(lambda: world.health().get("serverapp", False))
            with world.fleet(DEVICES) as fleet:
                began = world.cpu()
                world.wait(lambda: bool(world.events("closed")), seconds=900.0)
                ended = world.cpu()
                done = totals(fleet)
            world.wait(lambda: bool(world.events("published")), seconds=60.0)
            at = places(world, of=range(DEVICES))
            folder = world.site.models / str(latest_manifest(world.site))
            rounds = [event["users"] for event in world.events("round")]
            model = published.read(folder, public_key=world.site.key().public).model
        finally:
            world.stop()
    links = [part for part in ended if part.startswith("SuperLink")]
    found = []
    for place, part in enumerate(sorted(links)):
        share = at[place] / DEVICES
        cpu = ended[part] - began[part]
        found.append({"devices": at[place], "cpu": cpu, "rate": done["exchanges"] * share / cpu})
    arrays = {name: digest(array.tobytes()) for name, array in sorted(model.state.items())}
    return {"superlinks": found, "totals": done, "users": rounds, "arrays": arrays}


def one_lost(killed: int) -> dict[str, Any]:
    """Of three SuperLinks some are killed in an attempt, and held when they come back, until the attempt is over."""
    with tempfile.TemporaryDirectory() as home:
        # A cohort waits for longer than a device does before it tries again.
        world = World(
            Path(home), size=LOST, settings="{rounds = 3}", dropout=0.4, exchange_seconds=40.0, wait_seconds=60.0,
            superlinks=3,
        )  # fmt: skip
        world.start()
        try:
            with world.fleet(LOST):
                world.wait(lambda: len(world.events("round")) >= 1, seconds=300.0)
                at = places(world, of=range(LOST))
                ordered = sorted(range(3), key=lambda place: (at[place], place))
                few = [place for place in ordered if 0 < at[place] < LOST - LEAST] or ordered[:1]  # one more may leave
                gone = few[-1:] if killed == 1 else ordered[1:]
                before = charged(world)
                world.wait(lambda: charged(world) > before, seconds=300.0)
                over, held = _over(world), set[int]()
                time.sleep(1.0)
                _signal(pids := _pids(world, gone), signal.SIGKILL)
                while _over(world) == over:
                    _signal(new := _pids(world, gone) - pids - held, signal.SIGSTOP)
                    held |= new
                    time.sleep(0.1)
                _signal(held, signal.SIGCONT)
                ended = world.events("round", "aborted")[-1]
                charges, rounds = charged(world) - before, len(world.events("round"))
                seconds = world.wait(lambda: len(world.events("round")) > rounds, seconds=400.0)
                after = world.events("round")[-1]
            silent = sum(event["devices"] for event in world.events("silent"))
        finally:
            world.stop()
    return {
        "devices": [at[place] for place in range(3)],
        "killed": [at[place] for place in gone],
        "left": LOST - sum(at[place] for place in gone),
        "released": ended["event"] == "round",
        "users": ended.get("users", 0),
        "reason": ended.get("reason", ""),
        "charges": charges,
        "next": after["users"],
        "next_invited": after["invited"],
        "seconds": seconds,
        "silent": silent,
    }


def places(world: World, *, of: range) -> Counter[int]:
    """Place -> how many of these devices it has."""
    with Enrolments(world.site.enrolment_file) as register:
        return Counter(split(device.node or 0)[0] for device in register.devices() if device.number in of)


def _over(world: World) -> int:
    return len(world.events("round", "aborted"))


def charged(world: World) -> int:
    """The charges in the ledger."""
    with world.site.ledger(read_only=True) as ledger:
        return sum(entry.kind == "charge" for entry in ledger.entries())


def _pids(world: World, places_: list[int]) -> set[int]:
    """The processes of some SuperLinks."""
    names = {f"SuperLink {place + 1}" if place else "SuperLink" for place in places_}
    return {pid for part, pids in world.pids().items() if part in names for pid in pids}


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def moved() -> list[dict[str, Any]]:
    """A server with one SuperLink is given two, three, and one again, between rounds, while its devices go on."""
    found = []
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home), size=LOST, settings="{rounds = 3}", dropout=0.17, superlinks=1)
        try:
            world.start()
            with world.fleet(LOST):
                world.wait(lambda: len(world.events("round")) >= 1, seconds=300.0)
                for superlinks in (2, 3, 1):
                    before = numbers(world)
                    world.stop()
                    world.change(superlinks=superlinks)
                    rounds = len(world.events("round"))
                    began = time.monotonic()
                    world.start()
                    after = numbers(world)
                    world.wait(lambda: len(world.events("round")) > rounds, seconds=400.0)  # noqa: B023
                    seconds = time.monotonic() - began
                    event = world.events("round")[rounds]
                    found.append(
                        {
                            "superlinks": superlinks,
                            "devices": [places(world, of=range(LOST))[place] for place in range(superlinks)],
                            "moved": sum(split(a)[0] != split(b)[0] for a, b in zip(before, after, strict=True)),
                            "kept": [split(node)[1] for node in before] == [split(node)[1] for node in after],
                            "users": event["users"],
                            "seconds": seconds,
                            "files": sorted(file.name for file in world.site.superlink_files if file.exists()),
                        }
                    )
        finally:
            world.stop()
    return found


def numbers(world: World) -> list[int]:
    """The register's number of each device's node."""
    with Enrolments(world.site.enrolment_file) as register:
        return [device.node or 0 for device in register.devices()]
