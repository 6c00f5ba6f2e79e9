"""A hundred embedded devices at a real server: whole masked rounds, devices that are killed, and slow ones.

PYTHONPATH=simulations python simulations/benchmarks/fleet/run.py [--parts rounds,thirty,killed,slow]
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.serve.run import PARTS
from benchmarks.serve.world import ITEMS, World
from benchmarks.sheet import Table, main
from palate_client.floors import Floors
from palate_client.ledger.device_ledger import DeviceLedger
from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess

DEVICES, FEW, ROUNDS, EXCHANGES_BAR = 100, 30, 3, 6
COHORT, KILLED = 40, 0.3
POLL = 2.0


def histories(count: int) -> dict[int, list[str]]:
    """Device -> its items, from the seed 5."""
    rng = random.Random(5)  # noqa: S311 - tastes
    return {device: sorted(rng.sample(ITEMS, rng.randint(1, 12))) for device in range(count)}


class Members:
    """Devices in a process."""

    def __init__(
        self, world: World, count: int, tastes: dict[int, list[str]], *, seeded: bool, slow: float = 0.0
    ) -> None:
        folder = world.folder / f"members-{time.monotonic_ns()}"
        folder.mkdir()
        job = {
            "folder": str(folder / "stores"),
            "invitations": world.invitations(count),
            "histories": tastes,
            "seconds": 1500.0,
            "poll": POLL,
            "slow": slow,
            "seeded": seeded,
        }
        (folder / "job.json").write_text(json.dumps(job))
        script = str(Path(__file__).with_name("members.py"))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, script, str(folder / "job.json")], stdout=subprocess.PIPE, stderr=log, text=True
            )

    def results(self) -> list[dict[str, Any]]:
        said, _ = self.process.communicate(timeout=1800.0)
        found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
        return found


def final(world: World) -> str:
    """Hash of the model at the end of the run."""
    with world.site.ledger(read_only=True) as ledger:
        closed = [entry for entry in ledger.entries() if entry.kind == "close"]
    return str(closed[-1].body["facts"]["model_hash"])


def simulated(world: World, tastes: dict[int, list[str]]) -> list[str]:
    """The models of the same terms and histories, simulated in this process, without masks or network."""
    run = world.events("opened")[0]["run"]
    with world.site.ledger(read_only=True) as ledger:
        facts = ledger.entries(run)[0].body["facts"]
    clear = {**facts["cohort"], "masks": False, "directory": None}
    terms = RunTerms.model_validate({**facts, "cohort": clear})
    rows = [(device, ITEMS.index(item)) for device, items in tastes.items() for item in items]
    users, items = zip(*rows, strict=True)
    batch = Interactions.from_pairs(users, items, n_users=len(tastes), n_items=len(ITEMS))
    key, floors = world.site.key(), Floors(allow_seeded=True, allow_unmasked=True).for_few()
    releases: list[Release] = []
    with (
        tempfile.TemporaryDirectory() as home,
        open_run(terms, Path(home), ledger=":memory:", key=key) as coordinator,
        DeviceLedger(":memory:", durable=False) as devices,
    ):
        nodes = [
            Contributor(batch.users(slice(device, device + 1)), [device], devices, key.public, floors)
            for device in sorted(tastes)
        ]
        run_rounds(coordinator, InProcess(nodes), on_release=releases.append)
    return [release.model.hash for release in releases]


def rounds(_: Path, __: int) -> tuple[Any, list[Table]]:
    """100 devices."""
    return measured(DEVICES)


def thirty(_: Path, __: int) -> tuple[Any, list[Table]]:
    """30 devices, for a machine that has little time."""
    return measured(FEW)


def measured(count: int) -> tuple[Any, list[Table]]:
    """Some devices, masked, three rounds; the model against the simulation's; what it costs the server."""
    tastes = histories(count)
    with tempfile.TemporaryDirectory() as home:
        world = World(
            Path(home),
            size=count,
            settings=f"{{rounds = {ROUNDS}}}",
            noise="seeded",
            every_hours=720.0,
            exchange_seconds=180.0,
        )
        world.start()
        try:
            members = Members(world, count, tastes, seeded=True)
            world.wait(lambda: bool(world.events("opened")), seconds=600.0)
            before, begun = world.cpu(), time.monotonic()
            world.wait(lambda: bool(world.events("closed")), seconds=1500.0)
            after, wall = world.cpu(), time.monotonic() - begun
            found = members.results()
            done, aborted = world.events("round"), len(world.events("aborted"))
            models, last = simulated(world, tastes), final(world)
        finally:
            world.stop()
    results = [each["result"] for each in found if each["result"]]
    attempts = len(done) + aborted
    exchanges = [(result["exchanges"] - 1) / attempts for result in results]
    used = {part: after.get(part, 0.0) - before.get(part, 0.0) for part in PARTS}
    total = sum(result["exchanges"] - 1 for result in results)
    users = [event["users"] for event in done]
    whole, same = users == [count] * ROUNDS, bool(models) and models[-1] == last
    per = 1000 * sum(used.values()) / max(1, total)
    figures = {
        "users": users,
        "aborted": aborted,
        "same": same,
        "exchanges": exchanges,
        "cpu": used,
        "ms": per,
        "wall": wall,
    }
    rows = [
        ("rounds released, devices in each", f"{len(done)}: {users}", "met" if whole else "MISSED"),
        ("attempts that were aborted, and tried again", f"{aborted}", ""),
        ("model equals the simulation's", "yes, bit by bit" if same else "no", "met" if same else "MISSED"),
        (
            "exchanges a device and attempt, most",
            f"{max(exchanges):.2f}",
            f"<= {EXCHANGES_BAR}: {'met' if max(exchanges) <= EXCHANGES_BAR else 'MISSED'}",
        ),
        ("requests a device and attempt", f"{statistics.fmean(r['requests'] for r in results) / attempts:.1f}", ""),
        ("bytes out a device and attempt", f"{statistics.fmean(r['sent'] for r in results) / attempts:,.0f}", ""),
        ("server's CPU, ms an exchange, polls included", f"{per:.1f}", ""),
        ("seconds, all rounds", f"{wall:.0f}", ""),
    ]
    note = f"Looks for messages every {POLL:g} to {4 * POLL:g} s. " + ", ".join(
        f"{part} {seconds:.1f} CPU-s" for part, seconds in used.items()
    )
    return figures, [
        Table(f"{count} embedded devices, distributed, {ROUNDS} rounds", ("what", "found", "bar"), rows, note)
    ]


def killed(_: Path, __: int) -> tuple[Any, list[Table]]:
    """30 % of the devices are killed in the middle of a round; the others go on."""
    gone, rng = round(COHORT * KILLED), random.Random(9)  # noqa: S311 - a moment
    tastes = histories(COHORT)
    with tempfile.TemporaryDirectory() as home:
        world = World(
            Path(home), size=COHORT, settings="{rounds = 2}", dropout=0.35, every_hours=720.0, exchange_seconds=20.0
        )
        world.start()
        try:
            stay = Members(world, COHORT - gone, tastes, seeded=False)
            leave = Members(world, gone, tastes, seeded=False)
            world.wait(lambda: len(world.events("gathered")) > 0 and bool(world.events("opened")), seconds=600.0)
            moment = rng.uniform(2.0, 8.0)
            time.sleep(moment)
            leave.process.kill()
            begun = time.monotonic()
            seconds = world.wait(lambda: bool(world.events("round", "aborted", "closed")), seconds=600.0)
            stay.process.kill()
            events = world.events("round", "aborted")
        finally:
            world.stop()
            for members in (stay, leave):
                members.process.kill()
                members.process.wait()
    first = events[0] if events else {"event": "nothing"}
    bound = 6 * 20.0 + 20.0
    figures = {"events": events, "killed after": moment, "seconds": seconds, "begun": begun, "bound": bound}
    rows = [
        (
            f"{gone} of {COHORT} killed {moment:.1f} s into the attempt",
            f"{first['event']}, {first.get('users', '')}",
            f"{seconds:.0f} s",
            f"by {bound:.0f} s: {'met' if events and seconds <= bound else 'MISSED'}",
        )
    ]
    header = ("what", "the attempt ended with", "after the kill", "completes or aborts by its deadline")
    return figures, [
        Table("Devices that are killed in the middle of a round", header, rows, "SIGKILL of their process.")
    ]


def slow(_: Path, __: int) -> tuple[Any, list[Table]]:
    """A quarter of the devices takes three seconds more for everything."""
    late, tastes = COHORT // 4, histories(COHORT)
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home), size=COHORT, settings="{rounds = 2}", every_hours=720.0, exchange_seconds=60.0)
        world.start()
        try:
            quick = Members(world, COHORT - late, tastes, seeded=False)
            behind = Members(world, late, tastes, seeded=False, slow=3.0)
            seconds = world.wait(lambda: bool(world.events("closed")), seconds=900.0)
            events = world.events("round", "aborted")
        finally:
            world.stop()
            for members in (quick, behind):
                members.process.kill()
                members.process.wait()
    users = [event.get("users") for event in events if event["event"] == "round"]
    rows = [(f"{late} of {COHORT} devices, 3 s each time", str(users), f"{seconds:.0f} s")]
    header = ("slow", "devices in each round", "seconds")
    return {"events": events, "seconds": seconds}, [Table("Slow devices", header, rows)]


if __name__ == "__main__":
    main(
        __doc__,
        {"rounds": rounds, "thirty": thirty, "killed": killed, "slow": slow},
        Path(__file__).parent,
        seeds=1,
        needs_data=False,
    )
