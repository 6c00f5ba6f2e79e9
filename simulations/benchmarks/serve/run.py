"""What a server costs, and what it survives: loopback, nginx, TLS and node authentication on.

PYTHONPATH=simulations python simulations/benchmarks/serve/run.py [--parts cost,large,idle,kills,restore,\\
    looks,outside,hour,soak,door,register,thousand,half,sums] [--seeds KILLS]
"""

from __future__ import annotations

import os
import random
import signal
import socket
import ssl
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve.door import EXCHANGES, half_open, register, transport, waiting
from benchmarks.serve.hour import hour, hour_tables
from benchmarks.serve.looking import looks
from benchmarks.serve.restoring import lost_and_restored
from benchmarks.serve.sums import BITS, DEVICES, NUMBERS, sums
from benchmarks.serve.thousand import thousand
from benchmarks.serve.world import World, totals
from benchmarks.sheet import Part, Table, main
from palate_core.errors import PalateError
from palate_server.folder.enrolments import Enrolments
from palate_server.folder.server_folder import Site
from palate_server.operation.releases import latest
from palate_server.service.setup import make_site

ROUND_BAR, IDLE_BAR, ONLINE_BAR = 150.0, 2.0, 3.0
SHARE, SOON, MOMENTS, HELD, MORE = 0.85, 100.0, 30, 64.0, 1.3
COHORT, ROUNDS, LARGE, FEATURES = 100, 2, 20_000, 64
ENROLLED, PRESENT, WATCHED = 10_000, 100, 40.0
DOOR, WAITING, HALF, REAL, BROWSING = (300, 1_000, 3_000), 10_000, 10_000, 1_000, 3
TRANSPORT = ("gateway", "edge", "SuperLink", "ServerApp")
PAUSES = (24 * 3600.0, 600.0)
REGISTERS = ("enrolment.db",)
GARBAGE = 10_000
PROCESSES = ("SuperLink", "edge", "ServerApp", "gateway", "supervisor")


def cost(_: Path, __: int, *, kind: type[World] = World, **given: Any) -> Any:
    """CPU of each process over some masked rounds, from the devices' activation on."""
    with tempfile.TemporaryDirectory() as home:
        given = {"settings": f"{{rounds = {ROUNDS}}}", "exchange_seconds": 300.0, "wait_seconds": 300.0, **given}
        world, sizes = kind(Path(home), size=COHORT, every_hours=720.0, **given), set[int]()
        world.start()
        try:
            world.wait(lambda: world.health().get("serverapp", False))
            with world.fleet(COHORT, patient=True) as fleet:
                before = world.cpu()
                world.wait(lambda: _closed(world, sizes), seconds=900.0)
                after, memory, most = world.cpu(), world.memory(), world.most_memory()
                counted = totals(fleet)
            rounds, aborted = world.events("round"), len(world.events("aborted"))
        finally:
            world.stop()
    figures = {
        "devices": COHORT,
        "items": len(world.items),
        "rounds": len(rounds),
        "aborted": aborted,
        "totals": counted,
    }
    seconds = [event["seconds"] for event in rounds]
    figures |= {"memory": memory, "most": most, "models": sorted(sizes)}
    return {**figures, "cpu": _used(before, after), "seconds": seconds}


def _closed(world: World, sizes: set[int]) -> bool:
    """Whether the run is over; notes the bytes of the model that its rounds start from."""
    for file in world.site.round_models.glob("*"):
        with suppress(FileNotFoundError):  # the attempt is over
            sizes.add(file.stat().st_size)
    return bool(world.events("closed"))


class Large(World):
    """A server whose items have many public features, which each model has, too."""

    def make(self, folder: Path, config: str) -> Site:
        """Make the server folder."""
        features = np.random.default_rng(1).normal(size=(len(self.items), FEATURES))
        return make_site(
            folder, config.replace("[training]", '[training]\nfeatures = "features.npy"'), self.items, features
        )


def large(_: Path, __: int) -> Any:
    """The same with a large model."""
    items = tuple(f"item-{number}" for number in range(LARGE))
    return cost(_, __, kind=Large, items=items, algorithm="als", settings=f"{{rounds = {ROUNDS}}}")


def large_tables(figures: Any) -> list[Table]:
    """One row a process, and all of them."""
    return cost_tables(figures, title=f"Server CPU of a masked round with {figures['items']:,} items")


def cost_tables(figures: Any, *, title: str = "Server CPU of a masked round") -> list[Table]:
    """One row a process, and all of them."""
    used, devices, done = figures["cpu"], figures["devices"], figures["rounds"] + figures["aborted"]
    each = devices * done
    rows = [(part, f"{used[part]:.2f}", f"{1000 * used[part] / each:.1f}") for part in used]
    total = 1000 * sum(used.values()) / each
    verdict = f"{total:.1f} (<= {ROUND_BAR:g}: {'met' if total <= ROUND_BAR else 'MISSED'})"
    rows.append(("all", f"{sum(used.values()):.2f}", verdict))
    exchanges, requests = (figures["totals"][name] / each for name in ("exchanges", "requests"))
    note = (
        f"{devices} devices, {figures['rounds']} masked rounds released and {figures['aborted']} aborted, in "
        f"{' and '.join(f'{seconds:.0f} s' for seconds in figures['seconds'])}: "
        f"{exchanges:.1f} exchanges and {requests:.1f} requests a device and round. "
        f"The edge had {figures['memory']['edge'][0]:.0f} MiB at the end, {figures['most']:.0f} at most. "
        f"A device received {figures['totals']['received'] / each / 1e6:.2f} MB a round, the newest model among "
        f"them, and sent {figures['totals']['sent'] / each / 1e6:.2f} MB; as files, "
        f"the models that rounds start from, of {' and '.join(map(_mb, figures['models']))}."
    )
    header = ("process", "CPU-seconds", "ms a device and round")
    return [Table(title, header, rows, note)]


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"


def _used(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: after.get(part, 0.0) - before.get(part, 0.0) for part in PROCESSES}


def idle(_: Path, __: int) -> Any:
    """A server with 10,000 enrolled devices: without anything to do, with some that are sent home, and that wait."""
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home) / "away", size=COHORT, every_hours=720.0, automatic=False)
        with world.site.ledger() as ledger:
            _closed_run(ledger)
        _enrol_silent(world, ENROLLED - PRESENT)
        kept = {name: file.read_bytes() for name in REGISTERS if (file := world.site.folder / name).exists()}
        world.start()
        try:
            world.wait(lambda: world.health().get("serverapp", False))
            time.sleep(20.0)
            away = _watched(world)
            with world.fleet(PRESENT, patient=True) as fleet:
                present = _watched(world)
                present["visits"] = totals(fleet)["syncs"]
        finally:
            world.stop()
        world = World(Path(home) / "waiting", size=2 * PRESENT, every_hours=720.0, wait_seconds=1800.0)
        for name, data in kept.items():
            (world.site.folder / name).write_bytes(data)
        world.start()
        try:
            world.wait(lambda: world.health().get("serverapp", False))
            with world.fleet(PRESENT) as fleet:
                time.sleep(20.0)
                waiting = _watched(world)
                waiting["requests"] = totals(fleet)["requests"]
        finally:
            world.stop()
    visit = (present["spent"] - away["spent"]) / present["visits"]
    alone = 100 * away["spent"] / WATCHED
    figures = {"away": away, "present": present, "waiting": waiting, "visit": visit, "percent": alone}
    return figures | {f"percent, every {p:g} s": alone + 100 * visit * PRESENT / p for p in PAUSES}


def idle_tables(figures: Any) -> list[Table]:
    """Nobody, some that come more or less often, and some that stay."""
    away, present, waiting, visit, alone = (
        figures[name] for name in ("away", "present", "waiting", "visit", "percent")
    )
    rows = [("nobody comes", f"{alone:.2f} %", _parts(away), _idle(alone))]
    for pause in PAUSES:
        share = figures[f"percent, every {pause:g} s"]
        every = "once a day, as they are asked to" if pause > 3600.0 else "every ten minutes"
        rows.append((f"{PRESENT} come {every}", f"{share:.2f} %", "", _idle(share)))
    share = 100 * waiting["spent"] / WATCHED
    rows.append((f"{PRESENT} are online and wait", f"{share:.2f} %", _parts(waiting), _idle(share, bar=ONLINE_BAR)))
    memory = ", ".join(
        f"{name} {figure['memory']['edge'][0]:.0f}" for name, figure in (("nobody", away), ("who waits", waiting))
    )
    note = (
        f"{ENROLLED:,} enrolled; {WATCHED:g} s without anybody; {WATCHED:g} s in which {present['visits']} came at "
        f"once, were told when to come back, and left: {1000 * visit:.0f} CPU-ms a visit ({_parts(present)}); "
        f"and {WATCHED:g} s in which {PRESENT} waited for a cohort of {2 * PRESENT}. The edge's MiB: {memory}."
    )
    return [Table("An idle server", ("while", "of one core", "CPU-seconds", "bar"), rows, note)]


def _idle(share: float, *, bar: float = IDLE_BAR) -> str:
    return f"< {bar:g} %: {'met' if share < bar else 'MISSED'}"


def _parts(figure: dict[str, Any]) -> str:
    return ", ".join(f"{part} {seconds:.2f}" for part, seconds in figure["cpu"].items())


def kills(_: Path, repetitions: int) -> Any:
    """SIGKILL of each part at random moments of running rounds: what must hold afterwards, and how soon it goes on."""
    rng, figures = random.Random(11), []  # noqa: S311 - moments
    parts = ("ServerApp", "SuperLink", "edge", "gateway")
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home), size=12, settings="{rounds = 3}", dropout=0.17)
        world.start()
        try:
            with world.fleet(12):
                world.wait(lambda: len(world.events("round")) >= 1, seconds=300.0)
                for number in range(repetitions):
                    for part in parts:
                        figures.append(_kill(world, part, number, rng.uniform(0.0, 12.0)))
        finally:
            world.stop()
    return figures


def kills_tables(figures: Any) -> list[Table]:
    """One row a process."""
    rows = []
    for part in ("ServerApp", "SuperLink", "edge", "gateway"):
        mine = [figure for figure in figures if figure["part"] == part]
        good = sum(figure["sound"] for figure in mine)
        again = [figure["seconds"] for figure in mine]
        verdict = "MISSED" if good < len(mine) or max(again) > SOON else "met" if len(figures) >= MOMENTS else "few"
        rows.append((part, str(len(mine)), f"{good}", f"{max(again):.0f}", verdict))
    note = (
        "Sound: no attempt sealed twice, no release without its charge, no charge forgotten, a latest model that "
        f"verifies. Seconds: from the kill to the next release. {_loaded(figures)}"
    )
    header = (
        "killed", "times", "sound", "seconds to the next round, worst",
        f"bar: {MOMENTS} moments in all, sound, at most {SOON:g} s",
    )  # fmt: skip
    return [Table("SIGKILL at random moments", header, rows, note)]


def restore(_: Path, __: int) -> Any:
    """Backup, wipe, restore, under devices that go on; and a restore from an older witness, which is a fork."""
    with tempfile.TemporaryDirectory() as home:
        return lost_and_restored(Path(home))


def restore_tables(found: Any) -> list[Table]:
    """What is the same again, and what is refused."""
    spent = found["spent"]
    rows = [
        ("models", "the same", _met(found["same_models"])),
        ("spend", "none that anybody was shown is forgotten", _met(spent["restored"] >= spent["shown"] > 0)),
        ("next round after the restore", f"{found['seconds']:.0f} s", "met"),
        ("a restore that has forgotten charges", "devices refuse it", _met(found["fork_refused"])),
        ("next round after a restore that has not", f"{found['seconds_again']:.0f} s", "met"),
    ]
    note = f"SIGKILL of everything, then the folder is removed. {found['said'][0].upper()}{found['said'][1:]}."
    return [Table("Backup, wipe, restore", ("what", "found", "bar"), rows, note)]


def looking(_: Path, __: int) -> Any:
    """What a scrape and a look at the page cost with a long ledger."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as home:
        return looks(Path(home))


def looking_tables(found: Any) -> list[Table]:
    """By the length of the ledger, opened anew and kept."""
    rows = [
        (
            f"{each['entries']:,}",
            *(f"{each[how][what]:.3f}" for what in ("scrape", "page") for how in ("anew", "kept")),
            f"{each['bytes'] / 1024:.1f}",
        )
        for each in found["lengths"]
    ]
    titles = ("entries", *(f"{what}, {how}" for what in ("scrape", "page") for how in ("opened anew", "kept")), "KiB")
    note = "CPU seconds of the second look, and memory an entry. It is read once, in 40 µs an entry."
    return [Table("Looks at a long ledger", titles, rows, note)]


def _met(good: bool) -> str:
    return "met" if good else "MISSED"


def operated(_: Path, __: int) -> Any:
    """An hour of operation with faults."""
    with tempfile.TemporaryDirectory() as home:
        return hour(Path(home))


def outside(_: Path, __: int) -> Any:
    """10,000 garbage requests from outside, each on a connection of its own, while devices finish a run."""
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home), size=12, settings="{rounds = 2}", dropout=0.17, every_hours=720.0)
        world.start()
        sent = {"answered": 0, "cut": 0}
        over = threading.Event()
        try:
            with world.fleet(12):
                flood = threading.Thread(target=_flood, args=(world, sent, over))
                flood.start()
                world.wait(lambda: bool(world.events("closed")), seconds=600.0)
                flood.join()
            rounds, restarted = len(world.events("round")), len(world.events("restarted"))
        finally:
            over.set()
            world.stop()
    return {**sent, "rounds": rounds, "restarts": restarted}


def outside_tables(figures: Any) -> list[Table]:
    """All of them in a row."""
    rounds, restarted = figures["rounds"], figures["restarts"]
    met = rounds == 2 and not restarted
    sent = f"{figures['answered'] + figures['cut']:,}"
    rows = [(sent, str(figures["answered"]), str(rounds), str(restarted), "met" if met else "MISSED")]
    header = (
        "garbage requests",
        "answered with an error",
        "rounds finished meanwhile",
        "restarts",
        "bar: devices finish",
    )
    note = "The others were cut off. Path tricks, hosts, sizes and slowness: tests/integration/serve/test_gateway.py."
    return [Table("10,000 garbage requests", header, rows, note)]


def soak(_: Path, repetitions: int) -> Any:
    """Rounds and rounds with devices that come and go: memory and open files over time."""
    figures = []
    for dp, wanted in (("central", 30 * repetitions), ("distributed", 6 * repetitions)):
        with tempfile.TemporaryDirectory() as home:
            settings = "{rounds = 3}"
            world = World(Path(home), size=10, dp=dp, settings=settings, dropout=0.2)
            world.start()
            try:
                with world.fleet(12, churn=0.2):
                    for share in (0.2, 0.6, 1.0):
                        world.wait(lambda: len(world.events("round")) >= share * wanted, seconds=7200.0)  # noqa: B023
                        done = len(world.events("round")), len(world.events("aborted"))
                        figures.append({"dp": dp, "done": done, "memory": world.memory()})
            finally:
                world.stop()
    return figures


def soak_tables(figures: Any) -> list[Table]:
    """One row a moment."""
    rows = [
        (
            figure["dp"],
            *map(str, figure["done"]),
            *(
                f"{figure['memory'].get(part, (0, 0))[0]:.0f}"
                for part in ("SuperLink", "edge", "ServerApp", "supervisor")
            ),
            str(sum(files for _, files in figure["memory"].values())),
        )
        for figure in figures
    ]
    header = (
        "dp",
        "rounds",
        "aborted",
        "SuperLink, MiB",
        "edge, MiB",
        "ServerApp, MiB",
        "supervisor, MiB",
        "open files",
    )
    return [Table("Soak", header, rows, "12 devices, of which a fifth stays away each time; cohorts of 10.")]


def _enrol_silent(world: World, count: int) -> None:
    """Devices that are enrolled, and away."""
    with Enrolments(world.site.enrolment_file) as register:
        for number in range(count):
            token = register.invite(now=time.time(), hours=1.0)
            register.enrol(token, identity=f"{number:064x}", now=time.time())


def _closed_run(ledger: Any) -> None:
    """A run that has just ended, so that none is due for a month."""
    from datetime import UTC, datetime

    ledger.open_run("before", {"about": {}})
    facts = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "model_hash": "00" * 32, "rounds": 1}
    ledger.close_run("before", {**facts, "releases": 1})


def _watched(world: World) -> dict[str, Any]:
    before, begun = world.cpu(), time.monotonic()
    time.sleep(WATCHED)
    used = _used(before, world.cpu())
    return {"cpu": used, "spent": sum(used.values()) * WATCHED / (time.monotonic() - begun), "memory": world.memory()}


def _kill(world: World, part: str, number: int, wait: float) -> dict[str, Any]:
    """One kill, and what must hold after the next round."""
    time.sleep(wait)
    before, begun = len(world.events("round")), time.monotonic()
    for pid in world.pids().get(part, []):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(_pidfd(pid), signal.SIGKILL)
    world.wait(lambda: len(world.events("round")) > before, seconds=400.0)
    took, load = time.monotonic() - begun, os.getloadavg()[0]
    return {"part": part, "number": number, "wait": wait, "seconds": took, "sound": _sound(world), "load": load}


def _pidfd(pid: int) -> int:
    return os.pidfd_open(pid)


def _sound(world: World) -> bool:
    """The ledger opens (which replays every rule), covers the witness, and every sealed release is there."""
    from palate_core.plan import SignedPlan
    from palate_server.folder.witness import WITNESS

    try:
        with world.site.ledger(read_only=True) as ledger:
            entries = ledger.entries()
            charged = {(e.run, e.round, e.attempt) for e in entries if e.kind == "charge"}
            sealed = [(e.run, e.round, e.attempt) for e in entries if e.kind == "seal"]
            witness = SignedPlan.model_validate_json((world.site.witness / WITNESS).read_bytes())
            seen = None if witness.charge is None else witness.charge.checkpoint
            covered = seen is not None and ledger.checkpoint(seen.size) == seen
        files = all(
            (world.site.run(run) / "releases" / f"round-{round_}-attempt-{attempt}.safetensors").is_file()
            for run, round_, attempt in sealed
        )
        return (
            covered
            and files
            and len(set(sealed)) == len(sealed)
            and set(sealed) <= charged
            and latest(world.site) is not None
        )
    except PalateError:
        return False


def _flood(world: World, sent: dict[str, int], over: threading.Event) -> None:
    rng = random.Random(3)  # noqa: S311 - garbage
    context = ssl.create_default_context(cafile=str(world.site.tls / "ca.pem"))
    for _ in range(GARBAGE):
        if over.is_set():
            return
        path = rng.choice(
            ["/v1/control/list-runs", "/openapi.json", "/v1/fleet/x", "/v1/fleet/../y", "/v1/enroll", "/~"]
        )
        body = rng.randbytes(rng.randint(0, 2000))
        head = f"{rng.choice(['GET', 'POST'])} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        try:
            with (
                socket.create_connection(("127.0.0.1", world.site.config.gateway.port), timeout=10.0) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
                sent["answered"] += tls.recv(64).startswith(b"HTTP/1.1 4")
        except OSError:
            sent["cut"] += 1


def door(_: Path, __: int) -> Any:
    """Transport at three sizes, and ten thousand devices that wait."""
    return {"transport": [transport(devices) for devices in DOOR], "waiting": waiting(WAITING)}


def door_tables(figures: Any) -> list[Table]:
    """Transport by the number of devices; and what those that wait hold."""
    rows = []
    for each in figures["transport"]:
        devices = each["devices"]
        parts = [f"{1000 * each['cpu'][part] / devices:.1f}" for part in TRANSPORT]
        total, median = 1000 * sum(each["cpu"].values()) / devices, float(np.median(each["seconds"]))
        rows.append((f"{devices:,}", *parts, f"{total:.1f}", f"{median:.2f}", f"{each['memory']['edge']:.0f}"))
    header = ("devices", *(f"{part}, CPU-ms" for part in TRANSPORT), "all", "s an exchange, median", "edge, MiB")
    note = (
        f"CPU-ms a device for {EXCHANGES} exchanges of 1.5 kB down and 3 kB up, nginx and TLS in front, devices that "
        "compute nothing; of the ServerApp its transport alone."
    )
    held = figures["waiting"]
    size = {name: f"{value / 2**20:.0f} MiB" for name, value in held["bytes"].items()}
    waits = [
        (f"{held['devices']:,}", size["alone"], size["waiting"], size["most"], f"{100 * held['share']:.1f} %",
         f"{held['seconds']:.1f}"),
    ]  # fmt: skip
    columns = ("devices", "edge alone", "all wait", "at most", "of a core while all wait", "s to ask all and hear all")
    said = "Direct link, at the edge's socket, without nginx; each is sent 1 kB and answers 3 kB."
    return [Table("Transport", header, rows, note), Table("Devices that wait at one edge", columns, waits, said)]


def registers(_: Path, __: int) -> Any:
    """A thousand devices and a million."""
    return [register(count) for count in (1_000, 1_000_000)]


def registers_tables(figures: Any) -> list[Table]:
    """One row a size."""
    names = ("look", "full", "enrol", "seen", "door", "scrape", "invite", "directory")
    rows = [(f"{each['enrolled']:,}", *(f"{each[name]:.2f}" for name in names)) for each in figures]
    header = (
        "enrolled", "100 online", "a full cohort?", "enrol", "seen", "a request", "a scrape's numbers", "invite",
        "a directory",
    )  # fmt: skip
    words = "CPU-ms of one call; of the first column for a hundred devices, of the last for a cohort of a thousand."
    moved = [(each["enrolled"], *each["bytes"]["directory"].values(), each["bytes"]["attempt"]) for each in figures]
    sizes = [(f"{enrolled:,}", *(f"{size / 1000:.1f} kB" for size in each)) for enrolled, *each in moved]
    columns = ("enrolled", "directory of 100", "directory of 1,000", "a whole attempt of 100")
    said = (
        "Of a masked attempt, at one device, in and out; without plan and model, with a vector of a thousand numbers."
    )
    return [Table("The register", header, rows, words), Table("What a device moves", columns, sizes, said)]


def thousands(_: Path, __: int) -> Any:
    """A thousand real devices, browsers among them: with seeded noise beside a simulation; and with secure noise."""
    return [thousand(REAL, BROWSING, noise="seeded"), thousand(REAL, BROWSING, noise="secure")]


def thousands_tables(figures: Any) -> list[Table]:
    """One row a round."""
    rows = []
    for each in figures:
        devices, same = each["devices"], {True: "the same", False: "MISSED", None: ""}[each["simulated"]]
        spent = 1000 * sum(each["cpu"].values()) / devices
        released = f"{each['users']:,}: {_met(each['users'] == devices)}"
        rows.append((each["noise"], f"{devices:,}", str(each["browsers"]), released, f"{each['round']:.0f} s",
                     f"{spent:.0f}", f"{each['memory']['edge']:.0f}", same))  # fmt: skip
    header = (
        "noise", "devices", "in Chromium", "in the released sum", "the round", "server's CPU-ms a device", "edge, MiB",
        "model of the simulation",
    )  # fmt: skip
    note = f"One masked round of popularity; devices and server on one machine. {_loaded(figures)}"
    return [Table("Real devices in one masked round", header, rows, note)]


def _loaded(figures: Any) -> str:
    loads = [each["load"] for each in figures if "load" in each]
    said = " to ".join(dict.fromkeys(f"{each:.0f}" for each in (min(loads, default=0), max(loads, default=0))))
    return f"Load meanwhile: {said}." if loads else ""


def halves(_: Path, __: int) -> Any:
    """Connections that say half of what they must."""
    return {**half_open(HALF), "load": os.getloadavg()[0]}


def halves_tables(figures: Any) -> list[Table]:
    """One row a half."""
    rows = []
    for kind, what in (("hello", "half of a TLS hello"), ("headers", "TLS, and half of the headers")):
        mine = figures[kind]
        gateway, edge = (mine[part] / mine["open"] / 1000 for part in ("gateway", "edge"))
        bar = f"<= {HELD:g} kB: {_met(gateway + edge <= HELD)}"
        rows.append((what, f"{mine['open']:,}", f"{gateway:.1f} kB", f"{edge:.1f} kB", bar))
    note = f"The gateway ends such connections after ten seconds, here after an hour. {_loaded([figures])}"
    header = ("a connection has sent", "open at once", "gateway, each", "edge, each", "bar")
    return [Table("Half-open connections", header, rows, note)]


def partial_sums(_: Path, repetitions: int) -> Any:
    """Vectors of three hundred devices at one edge and at three, which add them up or don't."""
    return [[sums(edges, adds=adds) for edges in (1, 3) for adds in (False, True)] for _ in range(repetitions)]


def partial_sums_tables(found: Any) -> list[Table]:
    """One row an arrangement."""
    rows, first = [], dict[bool, float]()
    for number, each in enumerate(found[0]):
        if not all(other[number]["same"] and other[number]["heard"] == DEVICES for other in found):
            raise PalateError("each sum must be that of all vectors, got another")
        spent, edge = (float(np.mean([other[number][part] for other in found])) for part in ("coordinator", "edge"))
        share = spent / first.setdefault(each["adds"], spent)
        verdict = f"{share:.2f} (<= {MORE:g}: {_met(share <= MORE)})" if each["edges"] > 1 else "1"
        added = "added at the edges" if each["adds"] else "one by one"
        size = f"{each['bytes'] / 1e6:.1f} MB"
        rows.append((str(each["edges"]), added, size, f"{1000 * spent:.0f}", verdict, f"{1000 * edge:.0f}"))
    header = ("edges", "vectors", "to the coordinator", "its CPU-ms", "of one edge's", "each edge's CPU-ms")
    note = (
        f"Input step of {DEVICES} devices, {NUMBERS:,} numbers of {BITS} bits each; edges on other hosts, which "
        f"show what each device has signed; without Flower. Mean of {len(found)}. Each sum is bit for bit that of all "
        "vectors."
    )
    return [Table("Partial sums", header, rows, note)]


PARTS = {
    "door": Part(door, door_tables),
    "register": Part(registers, registers_tables),
    "cost": Part(cost, cost_tables),
    "large": Part(large, large_tables),
    "idle": Part(idle, idle_tables),
    "kills": Part(kills, kills_tables),
    "restore": Part(restore, restore_tables),
    "looks": Part(looking, looking_tables),
    "outside": Part(outside, outside_tables),
    "hour": Part(operated, hour_tables, seeds="7"),
    "soak": Part(soak, soak_tables),
    "thousand": Part(thousands, thousands_tables),
    "half": Part(halves, halves_tables),
    "sums": Part(partial_sums, partial_sums_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=10, needs_data=False)
