"""A thousand real devices, three of them browsers, in one masked round; with seeded noise it is the simulation's, too.

nginx -> edge -> SuperLink -> ServerApp, with seeded noise, beside a simulation in memory; and again with secure noise
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import palate
from benchmarks.serve.world import World, totals
from benchmarks.web.browsers import Browsers
from palate_client.rounds.contribution import Contributor
from palate_common.interactions import Interactions
from palate_core.plan import Noise
from palate_server.ledger.ledger import Ledger
from palate_server.operation.schedule import terms_of
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.in_process import InProcess
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

SECONDS = 3000.0
"""Seconds in which the round must be over."""


def thousand(devices: int, browsers: int, *, noise: str) -> dict[str, Any]:
    """One masked round of real devices: who is in it, how long it took, and whether the model is the simulation's."""
    with tempfile.TemporaryDirectory() as home:
        pages = Browsers("members.mjs") if browsers else None
        world = World(
            Path(home), size=devices, noise=noise, algorithm="popularity", every_hours=720.0, exchange_seconds=900.0,
            wait_seconds=1800.0, origins=[] if pages is None else pages.pages,
        )  # fmt: skip
        try:
            world.start()
            rows = [{7 * each + number for number in range(6)} for each in range(browsers)]
            liked = [[world.items[row] for row in sorted(each)] for each in rows]
            if pages is not None:
                service = {"publicKey": world.site.key().public, "population": world.site.config.population}
                pages.ask("open", service=service, invitations=world.invitations(browsers), items=liked, worker=True)
            with world.fleet(devices - browsers, patient=True, windows=(SECONDS,), kind="like") as fleet:
                synced = list[Any]()
                browsing = threading.Thread(target=lambda: synced.append(_sync(pages)))
                browsing.start()
                load, before, begun = list[float](), world.cpu(), time.monotonic()
                while not world.events("closed") and time.monotonic() - begun < SECONDS:
                    time.sleep(2.0)
                    load.append(os.getloadavg()[0])
                seconds, after, memory = time.monotonic() - begun, world.cpu(), world.memory()
                counted = totals(fleet)
                browsing.join(120.0)
            (over,) = world.events("round")
            rows += [_items_of(number) for number in range(devices - browsers)]
            same = _simulated(world, rows, Path(home)) if noise == "seeded" else None
        finally:
            world.stop()
            if pages is not None:
                pages.close()
    return {
        "devices": devices, "browsers": browsers, "noise": noise, "users": over["users"], "round": over["seconds"],
        "seconds": seconds, "cpu": {part: spent - before.get(part, 0.0) for part, spent in after.items()},
        "memory": {part: size for part, (size, _) in memory.items()}, "load": sum(load) / len(load), "totals": counted,
        "in browsers": [each["rounds"] for each in synced[0]["members"]] if synced and synced[0] else [],
        "simulated": same, "attempts": len(world.events("aborted")) + 1,
    }  # fmt: skip


def _sync(pages: Browsers | None) -> Any:
    return None if pages is None else pages.ask("sync", seconds=SECONDS, within=SECONDS + 60.0)


def _items_of(number: int) -> set[int]:
    """What the devices of `fleet.py` have seen."""
    return {(number * 13 + step * step * 7) % 200 for step in range(5)}


def _simulated(world: World, rows: list[set[int]], home: Path) -> bool:
    """Whether a simulation of the same run, without masks and network, ends with the same model."""
    with world.site.ledger(read_only=True) as ledger:
        (closed,) = [each for each in ledger.entries() if each.kind == "close"]
        told, final = terms_of(ledger, closed.run), closed.body["facts"]["model_hash"]
    if told.cohort is None or told.noise is not Noise.SEEDED:
        raise palate.PalateError("the run must have had a cohort and seeded noise")
    terms = RunTerms.model_validate(dict(told) | {"cohort": told.cohort.model_copy(update={"masks": False})})
    pairs = [(user, item) for user, items in enumerate(rows) for item in sorted(items)]
    users, items = zip(*pairs, strict=True)
    histories = Interactions.from_pairs(users, items, n_users=len(rows), n_items=len(world.items))
    floors = palate.Floors(allow_seeded=True, allow_central=True, allow_unmasked=True).for_few()
    key, folder = world.site.key(), home / "simulated"
    folder.mkdir()
    with (
        Ledger(":memory:", population=terms.population, unit=terms.unit) as ledger,
        SimulatedLedger(":memory:", durable=False) as kept,
        open_run(terms, folder, ledger=ledger, key=key) as coordinator,
    ):
        nodes = [
            Contributor(
                histories=histories.users(slice(user, user + 1)), devices=[user], ledger=kept, public_key=key.public,
                floors=floors, pinned=None,
            )
            for user in range(len(rows))
        ]  # fmt: skip
        run_rounds(coordinator, InProcess(nodes))
        return bool(coordinator.model.hash == final)
