"""Embedded devices at a real server, up to a thousand: whole masked rounds, devices that are killed, and slow ones.

PYTHONPATH=simulations python simulations/benchmarks/fleet/run.py \\
    [--parts rounds,thirty,thousand,thousand-seeded,killed,slow,nodes,few-nodes]
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import METRIC, ML_1M, quality, some_users, split_of
from benchmarks.serve.run import PROCESSES
from benchmarks.serve.world import ITEMS, World
from benchmarks.sheet import Part, Table, main
from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_common.models.model import GlobalModel
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.masks.graph_terms import LARGEST_COMPLETE
from palate_server.operation.releases import latest
from palate_server.rounds.coordinator import Release
from palate_server.rounds.registry import INPUTS, Registry
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

DEVICES, FEW, ROUNDS, EXCHANGES_BAR = 100, 30, 3, 6
MANY, ROUND_BAR, SECONDS_BAR = 1000, 150.0, 900.0
COHORT, KILLED = 40, 0.3
POLL = 2.0
PEOPLE, NODE_ROUNDS = 5, 2


def histories(count: int) -> dict[int, list[str]]:
    """Device -> its items, from the seed 5."""
    rng = random.Random(5)  # noqa: S311 - tastes
    return {device: sorted(rng.sample(ITEMS, rng.randint(1, 12))) for device in range(count)}


class Members:
    """Devices in a process."""

    def __init__(
        self,
        world: World,
        count: int,
        tastes: dict[int, list[str]],
        *,
        seeded: bool,
        slow: float = 0.0,
        processes: int = 1,
    ) -> None:
        folder = world.folder / f"members-{time.monotonic_ns()}"
        folder.mkdir()
        job = {
            "folder": str(folder / "stores"),
            "invitations": world.invitations(count),
            "histories": tastes,
            "seconds": 3000.0,
            "processes": processes,
            "poll": POLL,
            "slow": slow,
            "seeded": seeded,
        }
        (folder / "job.json").write_text(json.dumps(job))
        words = [sys.executable, str(Path(__file__).with_name("members.py")), str(folder / "job.json")]
        path = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "docs" / "examples")}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=path)

    def results(self, *, within: float = 3600.0) -> list[dict[str, Any]]:
        """What became of each, in so many seconds at most."""
        said, _ = self.process.communicate(timeout=within)
        found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
        return found


def final(world: World, *, at: int = -1) -> str:
    """Hash of the model at the end of a run; `at` is its place among those that were closed."""
    with world.site.ledger(read_only=True) as ledger:
        closed = [entry for entry in ledger.entries() if entry.kind == "close"]
    return str(closed[at].body["facts"]["model_hash"])


def simulated(
    world: World, tastes: dict[int, list[str]], *, at: int = 0, gone: Sequence[Collection[int]] | None = None
) -> list[GlobalModel]:
    """The models of a run's terms, inputs and histories, simulated in this process, without masks or network.

    Args:
        world: where it ran.
        tastes: device -> its items.
        at: the run's place among those that were opened.
        gone: the devices that are in none of a round's sum, for each round; None: all are in all of them.
    """
    run = world.events("opened")[at]["run"]
    with world.site.ledger(read_only=True) as ledger:
        facts = ledger.entries(run)[0].body["facts"]
    clear = {**facts["cohort"], "masks": False, "directory": None}
    terms = RunTerms.model_validate({**facts, "cohort": clear})
    row = {item: number for number, item in enumerate(world.items)}
    rows = [(device, row[item]) for device, items in tastes.items() for item in items]
    users, items = zip(*rows, strict=True)
    batch = Interactions.from_pairs(users, items, n_users=len(tastes), n_items=len(row))
    key, floors = world.site.key(), Floors(allow_seeded=True, allow_unmasked=True).for_few()
    releases: list[Release] = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if (inputs := world.site.run(run) / INPUTS).is_file():
            Registry(home).write_inputs(inputs.read_bytes())
        coordinator = stack.enter_context(open_run(terms, home, ledger=":memory:", key=key))
        devices = stack.enter_context(SimulatedLedger(":memory:", durable=False))
        nodes = {
            device: Contributor(
                batch.users(slice(device, device + 1)), [device], devices, key.public, floors, pinned=None
            )
            for device in sorted(tastes)
        }
        for out in [()] if gone is None else gone:
            there = [each for device, each in nodes.items() if device not in out]
            run_rounds(coordinator, InProcess(there), on_release=releases.append, most=None if gone is None else 1)
    return [release.model for release in releases]


def rounds(_: Path, __: int) -> Any:
    """100 devices."""
    return measured(DEVICES)


def thirty(_: Path, __: int) -> Any:
    """30 devices, for a machine that has little time."""
    return measured(FEW)


def thousand(_: Path, __: int) -> Any:
    """1,000 devices as they are by default, noise of the operating system's."""
    return measured(MANY, seeded=False, processes=2)


def thousand_seeded(_: Path, __: int) -> Any:
    """1,000 devices of a test, whose noise the simulation makes again."""
    return measured(MANY, processes=2)


def measured(count: int, *, seeded: bool = True, processes: int = 1) -> Any:
    """Some devices, masked; the model against the simulation's; what it costs the server. Many have one round."""
    tastes, many = histories(count), count >= MANY
    with tempfile.TemporaryDirectory() as home:
        world = World(
            Path(home),
            size=count,
            algorithm="popularity" if many else "sgd",
            settings="{}" if many else f"{{rounds = {ROUNDS}}}",
            noise="seeded" if seeded else "secure",
            every_hours=720.0,
            exchange_seconds=900.0 if many else 180.0,
            wait_seconds=1800.0 if many else 300.0,
        )
        world.start()
        try:
            started = time.monotonic()
            members = Members(world, count, tastes, seeded=seeded, processes=processes)
            world.wait(lambda: bool(world.events("opened")), seconds=1800.0)
            before, begun = world.cpu(), time.monotonic()
            world.wait(lambda: bool(world.events("closed")), seconds=3000.0)
            after, wall, memory = world.cpu(), time.monotonic() - begun, world.memory()
            found = members.results()
            done, aborted = world.events("round"), len(world.events("aborted"))
            models = simulated(world, tastes) if seeded else []
            last = final(world)
        finally:
            world.stop()
    results = [each["result"] for each in found if each["result"]]
    attempts = len(done) + aborted
    exchanges = [(result["exchanges"] - 1) / attempts for result in results]
    used = {part: after.get(part, 0.0) - before.get(part, 0.0) for part in PROCESSES}
    total = sum(result["exchanges"] - 1 for result in results)
    return {
        "devices": count,
        "users": [event["users"] for event in done],
        "aborted": aborted,
        "same": bool(models) and models[-1].hash == last if seeded else None,
        "exchanges": [min(exchanges), max(exchanges)] if many else exchanges,
        "requests": statistics.fmean(result["requests"] for result in results) / attempts,
        "sent": statistics.fmean(result["sent"] for result in results) / attempts,
        "received": statistics.fmean(result["received"] for result in results) / attempts,
        "cpu": used,
        "ms": 1000 * sum(used.values()) / max(1, total),
        "wall": wall,
        "seconds": [event["seconds"] for event in done],
        "ready": begun - started,
        "memory": memory,
    }


def rounds_tables(figures: Any) -> list[Table]:
    """What was found of whole rounds."""
    users, same, most, count = figures["users"], figures["same"], max(figures["exchanges"]), figures["devices"]
    attempts, bar = (
        len(users) + figures["aborted"],
        EXCHANGES_BAR + (count > LARGEST_COMPLETE),
    )  # a ring has a step more
    whole = len(users) > 0 and set(users) == {count}
    each = 1000 * sum(figures["cpu"].values()) / count / attempts
    rows = [
        ("rounds released, devices in each", f"{len(users)}: {users}", "met" if whole else "MISSED"),
        ("attempts that were aborted, and tried again", f"{figures['aborted']}", ""),
    ]
    if same is not None:
        rows.append(("model equals the simulation's", "yes, bit by bit" if same else "no", "met" if same else "MISSED"))
    rows += [
        (
            "exchanges a device and attempt, most",
            f"{most:.2f}",
            f"<= {bar}: {'met' if most <= bar else 'MISSED'}",
        ),
        ("requests a device and attempt", f"{figures['requests']:.1f}", ""),
        ("bytes out a device and attempt", f"{figures['sent']:,.0f}", ""),
        ("bytes in a device and attempt", f"{figures['received']:,.0f}", ""),
        ("server's CPU, ms an exchange, all requests included", f"{figures['ms']:.1f}", ""),
        (
            "server's CPU, ms a device and attempt",
            f"{each:.1f}",
            f"<= {ROUND_BAR:g}: {'met' if each <= ROUND_BAR else 'MISSED'}",
        ),
        ("seconds of each round", ", ".join(f"{seconds:.0f}" for seconds in figures["seconds"]), ""),
    ]
    if count >= MANY:
        longest = max(figures["seconds"])
        verdict = f"<= {SECONDS_BAR:g}: {'met' if longest <= SECONDS_BAR else 'MISSED'}"
        rows[-1] = (*rows[-1][:2], verdict)
        rows.append(("seconds until all had stores, keys and an enrolment", f"{figures['ready']:.0f}", ""))
    cpu = ", ".join(f"{part} {seconds:.1f} CPU-s" for part, seconds in figures["cpu"].items())
    memory = ", ".join(f"{part} {size:.0f} MiB" for part, (size, _) in figures["memory"].items())
    kind = "secure noise" if same is None else "seeded noise"
    title = f"{count:,} embedded devices, distributed, {kind}"
    note = f"{cpu}; {memory} at the end. The devices' own work is on the same two cores."
    return [Table(title, ("what", "found", "bar"), rows, note)]


def killed(_: Path, __: int) -> Any:
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
    return {"devices": COHORT, "gone": gone, "events": events, "killed after": moment, "seconds": seconds,
            "begun": begun, "bound": 6 * 20.0 + 20.0}  # fmt: skip


def killed_tables(figures: Any) -> list[Table]:
    """How the attempt ended."""
    events, gone, moment = figures["events"], figures["gone"], figures["killed after"]
    seconds, bound = figures["seconds"], figures["bound"]
    first = events[0] if events else {"event": "nothing"}
    rows = [
        (
            f"{gone} of {figures['devices']} killed {moment:.1f} s into the attempt",
            f"{first['event']}, {first.get('users', '')}",
            f"{seconds:.0f} s",
            f"by {bound:.0f} s: {'met' if events and seconds <= bound else 'MISSED'}",
        )
    ]
    header = ("what", "the attempt ended with", "after the kill", "completes or aborts by its deadline")
    return [Table("Devices that are killed in the middle of a round", header, rows, "SIGKILL of their process.")]


def slow(_: Path, __: int) -> Any:
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
    return {"devices": COHORT, "late": late, "events": events, "seconds": seconds}


def slow_tables(figures: Any) -> list[Table]:
    """Who was in each round."""
    users = [event.get("users") for event in figures["events"] if event["event"] == "round"]
    slow = f"{figures['late']} of {figures['devices']} devices, 3 s each time"
    rows = [(slow, str(users), f"{figures['seconds']:.0f} s")]
    header = ("slow", "devices in each round", "seconds")
    return [Table("Slow devices", header, rows)]


class Nodes:
    """Some nodes in a process, which can be killed and started again.

    Args:
        folder: of all nodes; those of this process are in it, too.
        number: of the process.
        job: what `nodes.py` does.
    """

    def __init__(self, folder: Path, number: int, job: dict[str, Any]) -> None:
        self.job, self.log, self.devices = folder / f"job-{number}.json", folder / f"log-{number}", set[int]()
        self.job.write_text(json.dumps(job))
        self.start()

    def start(self) -> None:
        """Start it; it gets there by itself."""
        command = [sys.executable, str(Path(__file__).with_name("nodes.py")), str(self.job)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def enrolled(self) -> None:
        """Wait until all of its people are."""
        said = "" if self.process.stdout is None else self.process.stdout.readline()
        if not said:
            raise PalateError(f"the nodes must enrol: see {self.log}")
        self.devices = set(json.loads(said))

    def go(self) -> None:
        """Have its people take part."""
        if self.process.stdin is not None:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        """Kill it, as when the power goes."""
        self.process.kill()
        self.process.wait()

    def ended(self) -> dict[str, int]:
        """How it ended -> for how many people."""
        said, _ = self.process.communicate(timeout=600.0)
        found: dict[str, int] = json.loads(said.splitlines()[-1]) if said else {}
        return found


def nodes(data: Path, _: int) -> Any:
    """200 nodes of 5 people."""
    return of_nodes(data, nodes=200)


def few_nodes(data: Path, _: int) -> Any:
    """20 nodes of 5 people, for a machine that has little time."""
    return of_nodes(data, nodes=20, exchange_seconds=60.0)


def of_nodes(data: Path, *, nodes: int, processes: int = 20, exchange_seconds: float = 300.0) -> Any:
    """Masked rounds of nodes of ML-1M's people; in the first a process is killed for good, then two that come back."""
    count, rng = nodes * PEOPLE, random.Random(9)  # noqa: S311 - moments
    cut = split_of(ML_1M, data, 0)
    people = some_users(cut.train, count, 0)
    tastes = {device: [cut.items[row] for row in people.user(device).indices] for device in range(count)}
    with tempfile.TemporaryDirectory() as name:
        home, made = Path(name), list[Nodes]()
        world = World(
            home, size=count, algorithm="als", settings=f"{{rounds = {NODE_ROUNDS}, popularity_only_below = 0.0}}",
            noise="seeded", epsilon=5.0, dropout=0.2, every_hours=720.0, exchange_seconds=exchange_seconds,
            wait_seconds=900.0, items=cut.items,
        )  # fmt: skip
        world.start()
        try:
            begun, invited = time.monotonic(), world.invitations(count)
            for number in range(processes):
                own = range(number, nodes, processes)
                told = {f"node-{at}": invited[at * PEOPLE : (at + 1) * PEOPLE] for at in own}
                made.append(Nodes(home, number, {"nodes": told, "histories": tastes}))
            for each in made:
                each.enrolled()
            ready = time.monotonic() - begun
            for each in made:
                each.go()
            world.wait(lambda: bool(world.events("opened")), seconds=1800.0)
            begun, before = time.monotonic(), world.cpu()
            kills = [rng.uniform(1.0, 5.0), rng.uniform(5.0, 30.0)]
            time.sleep(kills[0])
            made[0].kill()
            time.sleep(kills[1])
            for each in made[1:3]:
                each.kill()
                each.start()
            for each in made[1:3]:
                each.enrolled()
                each.go()
            world.wait(lambda: bool(world.events("closed")), seconds=2400.0)
            wall, after, load = time.monotonic() - begun, world.cpu(), os.getloadavg()[0]
            memory = world.memory()
            ended = sum((Counter(each.ended()) for each in made[1:]), Counter())
            last = final(world)
            world.wait(lambda: bool(world.events("published")))
            released, done = latest(world.site), world.events("round")
            if released is None or released.model.hash != last:
                raise PalateError("the newest model must be the run's, got another")
            lost, back = made[0].devices, made[1].devices | made[2].devices
            # Who is in a masked sum is seen nowhere; their number fits one of these sets, or a round was between them.
            of = {count - len(out): out for out in (set[int](), lost, back, lost | back)}
            known = [of[each["users"]] for each in done if each["users"] in of]
            model = simulated(world, tastes, gone=known)[-1] if len(known) == len(done) else None
            whole = simulated(world, tastes)[-1]
        finally:
            for each in made:
                each.kill()
            world.stop()
    found = quality(released.model, cut.test, cut, 0)
    return {
        "nodes": nodes, "people": PEOPLE, "processes": processes, "killed": [len(lost), len(back)],
        "kills": kills, "users": [each["users"] for each in done], "aborted": len(world.events("aborted")),
        "seconds": [each["seconds"] for each in done], "ready": ready, "wall": wall, "load": load, "ended": ended,
        "same": None if model is None else model.hash == released.model.hash, METRIC: found,
        "simulated": None if model is None else quality(model, cut.test, cut, 0),
        "all": quality(whole, cut.test, cut, 0),
        "cpu": {part: after.get(part, 0.0) - before.get(part, 0.0) for part in PROCESSES}, "memory": memory,
    }  # fmt: skip


def nodes_tables(figures: Any) -> list[Table]:
    """What was found of the nodes' rounds."""
    both, of = figures["killed"], figures["nodes"] * figures["people"]
    rows = [
        ("rounds released, people in each", f"{len(figures['users'])}: {figures['users']}", ""),
        ("people whose node was killed for good, and killed and started again", f"{both[0]}, {both[1]} of {of}", ""),
        ("attempts that were aborted, and tried again", f"{figures['aborted']}", ""),
    ]
    if figures["same"] is not None:
        same = figures["same"]
        said = "yes, bit by bit" if same else "no"
        rows.append(("model equals the simulation's of the same people", said, "met" if same else "MISSED"))
    own, all_ = figures[METRIC], figures["all"]
    rows += [
        (f"{METRIC}", f"{own:.4f}", ""),
        ("the same of the simulation's, nobody killed", f"{all_:.4f}", ""),
        ("seconds until all had stores, keys and an enrolment", f"{figures['ready']:.0f}", ""),
        ("seconds of each round", ", ".join(f"{each:.0f}" for each in figures["seconds"]), ""),
    ]
    cpu = ", ".join(f"{part} {seconds:.1f} CPU-s" for part, seconds in figures["cpu"].items())
    first, then = figures["kills"]
    kills = f"one is killed for good {first:.1f} s into the run, two others {then:.1f} s later"
    note = f"{figures['processes']} processes of nodes, of which {kills}; load {figures['load']:.0f}. {cpu}."
    title = f"{figures['nodes']} nodes of {figures['people']} people of MovieLens 1M, masked, epsilon 5"
    return [Table(title, ("what", "found", "bar"), rows, note)]


PARTS = {
    "rounds": Part(rounds, rounds_tables),
    "thirty": Part(thirty, rounds_tables),
    "thousand": Part(thousand, rounds_tables),
    "thousand-seeded": Part(thousand_seeded, rounds_tables),
    "killed": Part(killed, killed_tables),
    "slow": Part(slow, slow_tables),
    "nodes": Part(nodes, nodes_tables),
    "few-nodes": Part(few_nodes, nodes_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
