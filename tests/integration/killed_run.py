"""Runs that die: a process that is sent jobs, and forks a child for each, which kills itself where the job says.

    python killed_run.py        jobs as JSON lines on stdin; one line with the child's exit status for each

A job: {"folder": ..., "argv": [...] or null, "algorithm": ..., "settings": {...}, "dp": ..., "point": name or null,
"nth": 1, "signal": 9}. With `argv` the command line runs, otherwise the path alone: coordinator, devices, publish,
close. The forked children have everything imported, so that a run takes a tenth of a second and not three seconds.
Nothing in Palate knows of this: the functions are wrapped here.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate_cli.cli import run as command_line
from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import catalogue_hash
from palate_common.records.key_file import load_key, save_key
from palate_common.rounds import wire
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.errors import PalateError
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.log import Log
from palate_server.rounds import coordinator
from palate_server.rounds.registry import Registry
from palate_server.rounds.replay import Replay
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.run.run_folder import RunFolder

N_USERS, N_ITEMS, PER_NODE = 60, 25, 16
EPSILON, DELTA = 5.0, 1e-5


@dataclass(frozen=True)
class Point:
    """Where a process dies: before or after a call of a function, if the call is one of those meant."""

    owner: Any
    name: str
    after: bool
    meant: Callable[..., bool] = lambda *_, **__: True


def _file(name: str) -> Callable[..., bool]:
    return lambda path, *_, **__: path.name == name


def _kind(kind: str) -> Callable[..., bool]:
    return lambda _, entry, *__: entry.kind == kind


def _release(_: Path, target: Path) -> bool:
    return target.name.startswith("round-")


POINTS = {
    "before the charge": Point(Ledger, "charge", False),
    "within the charge's transaction": Point(Log, "take", True, _kind("charge")),
    "after the charge": Point(Ledger, "charge", True),
    "after the plan is signed": Point(coordinator, "sign_plan", True),
    "after a device's charge": Point(SimulatedLedger, "charge", True),
    "before an answer is sent": Point(wire, "_record", True),
    "after the sum": Point(coordinator, "aggregate", True),
    "after the noise": Point(coordinator, "noised", True),
    "before the release has its name": Point(Path, "replace", False, _release),
    "after the release has its name": Point(Path, "replace", True, _release),
    "before the seal": Point(Ledger, "seal", False),
    "within the seal's transaction": Point(Log, "take", True, _kind("seal")),
    "after the seal": Point(Ledger, "seal", True),
    "after the next model": Point(Replay, "apply", True),
    "before the model is published": Point(Registry, "publish", False),
    "after the items": Point(published, "write_durably", True, _file("items")),
    "after the model's file": Point(published, "write_durably", True, _file("model.safetensors")),
    "after the manifest": Point(published, "write_durably", True, _file("manifest.json")),
    "after the signature": Point(published, "write_durably", True, _file("signature")),
    "before the run is closed": Point(Ledger, "close_run", False),
    "after the run is closed": Point(Ledger, "close_run", True),
    "after the extract": Point(RunFolder, "write", True, lambda _, name, *__: name == "ledger.json"),
    "after the card": Point(RunFolder, "write", True, lambda _, name, *__: name == "privacy_card.json"),
    "before the result": Point(RunFolder, "write", False, lambda _, name, *__: name == "result.json"),
}


def arm(point: Point, nth: int, number: int) -> None:
    """Send this process a signal at the n-th call that is meant."""
    original = getattr(point.owner, point.name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        meant = point.meant(*args, **kwargs)
        calls += meant
        due = meant and calls == nth
        if due and not point.after:
            os.kill(os.getpid(), number)
        result = original(*args, **kwargs)
        if due and point.after:
            os.kill(os.getpid(), number)
        return result

    setattr(point.owner, point.name, wrapped)


def histories() -> Interactions:
    rng = np.random.default_rng(2)
    odds = 1 / np.arange(1, N_ITEMS + 1)
    items = [rng.choice(N_ITEMS, 8, replace=False, p=odds / odds.sum()) for _ in range(N_USERS)]
    owners = np.repeat(np.arange(N_USERS), 8)
    return Interactions.from_pairs(owners, np.concatenate(items), n_users=N_USERS, n_items=N_ITEMS)


def whole_run(folder: Path, *, algorithm: str, settings: dict[str, Any], dp: str) -> None:
    """Open or resume the run in a folder, and take it to its end."""
    batch, items = histories(), [f"i{row}" for row in range(N_ITEMS)]
    off = dp == "off"
    mu = None if off else mu_of(epsilon=EPSILON, delta=DELTA)
    terms = RunTerms.model_validate({
        "population": "readers", "run": "run-1", "algorithm": algorithm, "settings": settings, "dp": dp,
        "facts": PublicFacts(n_users=N_USERS, n_items=N_ITEMS, mu=mu), "per_node": PER_NODE,
        "catalogue": catalogue_hash(items), "epsilon": None if off else EPSILON, "delta": DELTA,
    })  # fmt: skip
    key_file = folder / "key"
    if not key_file.exists():
        save_key(SigningKey.generate(), key_file)
    key, floors = load_key(key_file), Floors(allow_off=off, allow_central=not off)
    with (
        open_run(terms, folder, ledger=folder / "ledger.db", key=key) as server,
        SimulatedLedger(folder / "devices.db", durable=False) as devices,
    ):
        shards = [range(first, min(first + PER_NODE, N_USERS)) for first in range(0, N_USERS, PER_NODE)]
        nodes = [
            Contributor(batch.users(slice(shard.start, shard.stop)), shard, devices, key.public, floors, pinned=None)
            for shard in shards
        ]
        run_rounds(server, InProcess(nodes))
        place = {"population": terms.population, "shown": server.ledger.shown()}
        server.registry.publish(server.model, ItemCatalogue(tuple(items)), {"run": terms.run}, key, **place)
        if not any(entry.kind == "close" for entry in server.ledger.entries(terms.run)):
            server.ledger.close_run(terms.run, {"model_hash": server.model.hash})


def perform(job: dict[str, Any]) -> int:
    """Run one job in this process; its exit code."""
    if job.get("point"):
        arm(POINTS[job["point"]], job.get("nth", 1), job.get("signal", signal.SIGKILL))
    try:
        if job.get("argv"):
            return command_line(job["argv"])
        whole_run(Path(job["folder"]), **{name: job[name] for name in ("algorithm", "settings", "dp")})
    except PalateError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def warm_up(*, command: bool) -> None:
    """One run to its end here, so that what a process loads and makes once isn't loaded and made in every child."""
    with tempfile.TemporaryDirectory() as made:
        if command:
            command_here(Path(made))
        else:
            settings = {"rounds": 3, "popularity_only_below": 0}
            whole_run(Path(made), algorithm="als", settings=settings, dp="central")


def command_here(folder: Path) -> None:
    """The command line on a small log in this process."""
    rows = [f"u{user},i{item}" for user in range(N_USERS) for item in range(user % 5, N_ITEMS, 5)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    words = ["simulate", str(folder / "log.csv"), "--out", str(folder / "run"), "--rounds", "3"]
    for setting in ("evaluation.baselines=none", "evaluation.projection=none"):
        words += ["--set", setting]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
        if command_line(words) != 0:
            raise RuntimeError(said.getvalue())


def serve() -> None:
    """Fork a child for each job, with its output in `folder`.log, and tell how it ended."""
    warm = set[bool]()
    for line in sys.stdin:
        job = json.loads(line)
        if ("argv" in job) not in warm:
            warm_up(command="argv" in job)
            warm.add("argv" in job)
        child = os.fork()
        if child == 0:
            log = os.open(f"{job['folder']}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = perform(job)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start background jobs without it
    if len(sys.argv) > 1:
        sys.exit(perform(json.loads(sys.argv[1])))
    serve()
