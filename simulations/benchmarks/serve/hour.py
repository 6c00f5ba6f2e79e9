"""An hour of operation with faults: seven devices, two of them browsers, and what each charge was spent on.

items are added | half agree to surveys | some syncs are short | a copy is restored beside it | SIGKILL of each part

Each charged attempt is released, or a process that was killed while it ran has voided it. What is spent is the sum.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.serve.world import World, free_ports, totals
from benchmarks.sheet import Table
from benchmarks.web.browsers import Browsers
from palate_common.survey import SURVEYING
from palate_core.accounting import epsilon_of
from palate_core.errors import PalateError
from palate_core.privacy_mode import DpMode
from palate_server.folder.enrolments import Enrolments
from palate_server.rounds.terms import noise_delta

PYTHON, BROWSERS = 5, 2
ANALYTICS = 3
"""Devices in Python that agree to `analytics` from the start; all others agree to `train` alone at first."""
WINDOWS = (45.0, 110.0, 300.0, 600.0, 600.0)
"""Seconds of a sync, of each device in Python."""
BROWSER_WINDOW = 110.0
SECONDS = 3600.0
PARTS = ("SuperLink", "edge", "ServerApp", "gateway", "supervisor")
RECOVERY = 300.0
"""Seconds until a round is released after a kill, at most."""
DELTA = 1e-6
CONFIG = """
population = "hour"
profile = "trial"
devices = {devices}
[privacy]
epsilon = 2.0
lifetime_epsilon = 1000.0
period_epsilon = 1000.0
dropout = 0.3
[training]
algorithm = "als"
settings = {{rounds = 2}}
every_hours = 0.005
[cohort]
wait_seconds = 20.0
exchange_seconds = 20.0
pause_seconds = 10.0
participations = 100000
[gateway]
listen = "127.0.0.1"
port = {ports[0]}
superlink_port = {ports[1]}
metrics_port = {ports[2]}
requests_per_second = 500
origins = {origins}
[enrolment]
requests_per_minute = 1000
[release]
automatic = true
[surveys]
weekly = true
"""


@dataclass(frozen=True)
class Fault:
    """A process that was killed.

    Attributes:
        part: which.
        at: when it was killed, seconds since 1970.
        back: when a round was released again.
        alive: how many processes of each part there were then.
    """

    part: str
    at: float
    back: float
    alive: Mapping[str, int]


class HourWorld(World):
    """A trial server, made from its profile."""

    def make(self, folder: Path, config: str) -> Any:
        """Make the server folder."""
        origins = config.split("origins = ")[1].split("\n")[0]
        text = CONFIG.format(devices=PYTHON + BROWSERS, ports=free_ports(), origins=origins)
        return super().make(folder, text)


class Pages:
    """The browsers, which sync again and again in a thread."""

    def __init__(self, browsers: Browsers, over: threading.Event) -> None:
        self._browsers, self._over, self.agree = browsers, over, threading.Event()
        self.rounds, self.ended = 0, dict[str, int]()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        agreed = False
        while not self._over.is_set():
            if self.agree.is_set() and not agreed:
                self._browsers.ask("agree", purpose="analytics")
                agreed = True
            for each in self._browsers.ask("sync", seconds=BROWSER_WINDOW)["members"]:
                self.rounds += each["rounds"]
                self.ended[each["ended"]] = self.ended.get(each["ended"], 0) + 1
            self._over.wait(1.0)


def hour(home: Path, *, seconds: float = SECONDS, seed: int = 7) -> dict[str, Any]:
    """The hour; what was charged, released and voided, and by what."""
    rng, over = random.Random(seed), threading.Event()  # noqa: S311 - moments
    browsers = Browsers("members.mjs")
    try:
        world = HourWorld(home, size=PYTHON + BROWSERS, origins=browsers.pages)
        world.start()
        try:
            service = {"publicKey": world.site.key().public, "population": world.site.config.population}
            liked = [[world.items[7 * each + number] for number in range(6)] for each in range(BROWSERS)]
            browsers.ask("open", service=service, invitations=world.invitations(BROWSERS), items=liked, worker=True)
            purposes = [["train", "analytics"]] * ANALYTICS + [["train"]] * (PYTHON - ANALYTICS)
            with world.fleet(PYTHON, windows=WINDOWS, purposes=purposes) as fleet:
                pages = Pages(browsers, over)
                pages.thread.start()
                found = _told(world, pages, fleet, rng, seconds)
                over.set()
                found["python"] = totals(fleet)
            pages.thread.join(2 * BROWSER_WINDOW)
            found["browsers"] = {"rounds": pages.rounds, "ended": pages.ended}
        finally:
            over.set()
            world.stop()
        return found | _accounts(world, [Fault(**each) for each in found["faults"]])
    finally:
        browsers.close()


def _told(
    world: World, pages: Pages, fleet: subprocess.Popen[str], rng: random.Random, seconds: float
) -> dict[str, Any]:
    """What happens in the hour, in its order: between two events rounds are released."""
    begun, faults = time.time(), list[dict[str, Any]]()
    found: dict[str, Any] = {"added": [], "faults": faults}
    _released(world, 2)
    found["added"].append(_add_items(world, 10))
    found["copy"] = _copied(world)
    step = (seconds - 600.0) / len(PARTS)
    for number, part in enumerate(PARTS, start=1):
        if part == PARTS[-1]:  # a server that starts asks at once for what it has put off for an hour
            found["surveys before all agreed"] = len(_surveys(world))
            _all_agree(pages, fleet)
            time.sleep(BROWSER_WINDOW + 10.0)  # a page agrees between two syncs
        time.sleep(rng.uniform(0.0, 12.0))
        faults.append(_killed(world, part))
        _released(world, 1)
        while time.time() - begun < step * number:
            time.sleep(1.0)
    world.wait(lambda: any(not each["void"] for each in _surveys(world)), seconds=RECOVERY)
    found["surveys"] = len(_surveys(world))
    found["added"].append(_add_items(world, 5))
    while time.time() - begun < seconds:
        time.sleep(1.0)
    world.wait(lambda: not _under_way(world), seconds=RECOVERY)
    return found | {"seconds": time.time() - begun}


def _all_agree(pages: Pages, fleet: subprocess.Popen[str]) -> None:
    """Let every user agree to surveys, too."""
    pages.agree.set()
    if fleet.stdin is None:
        raise PalateError("the devices must have a standard input")
    fleet.stdin.write("analytics\n")
    fleet.stdin.flush()


def _released(world: World, count: int) -> float:
    """Wait until so many more rounds were released; the seconds it took."""
    before = len(world.events("round"))
    return world.wait(lambda: len(world.events("round")) >= before + count, seconds=RECOVERY)


def _under_way(world: World) -> bool:
    """Whether the last charge has neither a release nor an end."""
    with world.site.ledger(read_only=True) as ledger:
        entries = [each.kind for each in ledger.entries() if each.kind in ("charge", "seal")]
    return bool(entries) and entries[-1] == "charge" and not _ended(world)


def _ended(world: World) -> bool:
    """Whether the last attempt that was told of was void."""
    told = world.events("round", "aborted", "lost")
    return bool(told) and told[-1]["event"] != "round"


def _command(world: World, *arguments: str) -> str:
    command = [sys.executable, "-m", "palate_cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300.0, check=False)
    if done.returncode:
        raise PalateError(f"`palate {' '.join(arguments)}` must work, got {done.stderr[-400:]}")
    return done.stdout


def _add_items(world: World, count: int) -> dict[str, Any]:
    """Add items while the server runs; how long until devices' model has them, and a round over them is released."""
    file = world.folder / "more-items"
    world.items = (*world.items, *(f"new-{len(world.items) + each}" for each in range(count)))
    file.write_text("".join(f"{item}\n" for item in world.items))
    begun = time.monotonic()
    _command(world, "serve", "items", str(world.site.folder), str(file))

    def over_all() -> bool:
        return any(terms["facts"]["n_items"] == len(world.items) for terms in _sealed_terms(world))

    world.wait(over_all, seconds=RECOVERY)
    return {"items": count, "seconds": time.monotonic() - begun}


def _sealed_terms(world: World) -> list[Mapping[str, Any]]:
    """Facts of each run that has a release."""
    with world.site.ledger(read_only=True) as ledger:
        entries = ledger.entries()
    sealed = {each.run for each in entries if each.kind == "seal"}
    return [each.facts for each in entries if each.kind == "open" and each.run in sealed]


def _copied(world: World) -> dict[str, Any]:
    """Restore a backup beside the server, and revoke a device in the copy: the live server's must go on taking part."""
    archive, copy = world.folder / "backup.tar", world.folder / "copy"
    _command(world, "serve", "backup", str(world.site.folder), str(archive))
    _command(world, "serve", "restore", str(archive), str(copy), "--witness", str(world.site.witness))
    last = PYTHON + BROWSERS - 1
    command = [sys.executable, "-m", "palate_cli", "serve", "revoke", str(copy), str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300.0, check=False)
    shutil.rmtree(copy)
    before = len(world.events("round"))
    world.wait(lambda: len(world.events("round")) >= before + 2, seconds=RECOVERY)
    with Enrolments(world.site.enrolment_file) as register:
        states = {device.number: device.state for device in register.listed(now=time.time())}
    full = [event["users"] for event in world.events("round")][before:]
    return {"said": (done.stdout + done.stderr).strip()[:200], "state": str(states[last]), "users": full}


def _killed(world: World, part: str) -> dict[str, Any]:
    """SIGKILL of a part; a supervisor is started again as systemd does. When a round was released again."""
    before, at = len(world.events("round")), time.time()
    if part == "supervisor":
        if world.process is None:
            raise PalateError("the server must run")
        world.process.kill()
        world.process.wait(60.0)
        world.start()
    else:
        for pid in world.pids()[part]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    world.wait(lambda: len(world.events("round")) > before, seconds=RECOVERY)
    alive = {name: len(pids) for name, pids in world.pids().items() if name != "gateway"}
    return {"part": part, "at": at, "back": time.time(), "alive": alive}


def _surveys(world: World) -> list[dict[str, Any]]:
    """The surveys that were charged, and whether each is void."""
    return [each for each in _attempts(world) if each["survey"]]


def _attempts(world: World) -> list[dict[str, Any]]:
    """Each charge of the ledger, in its order."""
    with world.site.ledger(read_only=True) as ledger:
        entries = ledger.entries()
    surveys = {each.run for each in entries if each.kind == "open" and each.facts.get("algorithm") == SURVEYING}
    sealed = {(each.run, each.round, each.attempt) for each in entries if each.kind == "seal"}
    return [
        {
            "run": each.run, "round": each.round, "attempt": each.attempt, "mu2": each.mu2,
            "void": (each.run, each.round, each.attempt) not in sealed, "survey": each.run in surveys,
        }
        for each in entries if each.kind == "charge"
    ]  # fmt: skip


def _accounts(world: World, faults: list[Fault]) -> dict[str, Any]:
    """What each charge was spent on: a release, an attempt that a fault has voided, or nothing that is known."""
    attempts = _attempts(world)
    told = [
        (datetime.fromisoformat(event["at"]).timestamp(), event)
        for event in world.events("aborted", "lost")
        if event["event"] == "lost" or event.get("charged")
    ]
    named = list[dict[str, Any]]()
    unnamed = list[dict[str, Any]]()
    for at, event in told:
        begun = at - float(event.get("seconds", 0.0))
        by = next((fault for fault in faults if begun <= fault.back and at >= fault.at), None)
        said = {"reason": event.get("reason", event["event"]), "words": str(event.get("words", ""))[:200]}
        (named if by else unnamed).append(said | ({"part": by.part} if by else {}))
    voids = [each for each in attempts if each["void"]]
    mu2 = {
        "spent": sum(each["mu2"] for each in attempts),
        "released": sum(each["mu2"] for each in attempts if not each["void"]),
        "void": sum(each["mu2"] for each in voids),
    }
    with world.site.ledger(read_only=True) as ledger:
        ledger_spent = ledger.spent()
    delta = noise_delta(DpMode.DISTRIBUTED, DELTA)
    return {
        "charged": len(attempts),
        "released": len(attempts) - len(voids),
        "named": named,
        "unnamed": unnamed,
        "untold": len(voids) - len(told),
        "mu2": mu2,
        "ledger": ledger_spent,
        "epsilon": {name: epsilon_of(mu=value**0.5, delta=delta) if value else 0.0 for name, value in mu2.items()},
        "no cohort": len(world.events("no cohort")),
    }


def hour_tables(found: Mapping[str, Any]) -> list[Table]:
    """What was charged and for what, and what became of each event of the hour."""
    voided, epsilon, copy = found["charged"] - found["released"], found["epsilon"], found["copy"]
    same = math.isclose(found["ledger"], found["mu2"]["spent"], rel_tol=1e-9)  # they are summed in another order
    whole = not found["unnamed"] and not found["untold"] and same
    parts = ", ".join(f"{each['part']} {each['back'] - each['at']:.0f} s" for each in found["faults"])
    by = ", ".join(f"{each['part']} ({each['reason']})" for each in found["named"]) or "none"
    single = all(set(each["alive"].values()) == {1} for each in found["faults"])
    added = ", ".join(f"{each['items']} within {each['seconds']:.0f} s" for each in found["added"])
    rows = [
        ("charged attempts", f"{found['charged']}: {found['released']} released, {voided} void", ""),
        ("void by a killed process", by, ""),
        ("void by anything else", str(len(found["unnamed"]) + found["untold"]), _met(whole)),
        (
            "epsilon spent, of releases, of void attempts",
            ", ".join(f"{epsilon[name]:.3f}" for name in ("spent", "released", "void")),
            _met(whole),
        ),
        ("items added, until a round over them was released", added, "met"),
        (
            "surveys charged while half agree, and when all do",
            f"{found['surveys before all agreed']}, {found['surveys']}",
            _met(found["surveys before all agreed"] == 0 and found["surveys"] == 1),
        ),
        ("the device that was revoked in a restored copy", copy["state"], _met(copy["state"] == "enrolled")),
        ("SIGKILL until the next round; one process of each after it", parts, _met(single)),
    ]
    note = (
        f"{PYTHON} devices in Python, with syncs of {', '.join(f'{each:g}' for each in WINDOWS)} s, {BROWSERS} in "
        f"Chromium, of {BROWSER_WINDOW:g} s; {found['seconds'] / 60:.0f} minutes, with masks. Epsilon: unit user (one "
        "installation), adjacency zero-out, delta 1e-6, closed form of the Gaussian mechanism. Gatherings that cost "
        f"nothing as too few devices could stay: {found['no cohort']}."
    )
    return [Table("Operation with faults", ("what", "found", "bar"), rows, note)]


def _met(good: bool) -> str:
    return "met" if good else "MISSED"
