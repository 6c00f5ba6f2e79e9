"""Browsers in masked cohorts at a real server: among devices in Python, with many items, and killed as they answer.

PYTHONPATH=simulations python simulations/benchmarks/web/run.py [--parts cohort,time,kills,controls] [--seeds KILLS]
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fleet.run import Members, final, simulated
from benchmarks.serve.world import World
from benchmarks.sheet import Part, Table, main
from benchmarks.web.browsers import Browsers
from benchmarks.web.reckoning import expected, releases, shown_vector, vector_of
from palate_core.errors import PalateError
from palate_core.plan import read_plan

BROWSERS, PYTHON, ROUNDS, OTHERS = 10, 20, 3, 5
ITEMS, LIKED, WIDTH, CROWD = 20_000, 400, 16, 100
"""So many items, and likes of each, that some 10,000 have counts for the collaborative round: 160,000 numbers."""
BAR = 2.0
"""Seconds of the processor that a worker may take for both masked rounds, the model it takes before included."""
SECONDS, LEAVING, KILL = 1500.0, 180.0, 120.0
"""Seconds: that runs may take until they are closed; that devices may take to leave then; that a kill may take."""
CONTROLS = {
    "charge": ("was answered, and not charged",),
    "note": ("left, and isn't in the journal",),
}
"""A promise that is taken out of a device, and what must then be said of it."""
CONTROL_KILLS = 10
AMISS = ("no cohort",)
"""Events after which nothing more comes of a cohort."""


def tastes(count: int, items: Sequence[str], most: int = 12) -> dict[int, list[str]]:
    """Device -> its items, from the seed 5."""
    rng = random.Random(5)  # noqa: S311 - tastes
    return {device: sorted(rng.sample(items, rng.randint(max(1, most - 20), most))) for device in range(count)}


def together(
    browsers: Browsers, world: World, liked: Mapping[int, list[str]], *, worker: bool, count: int, until: str = "closed"
) -> Any:
    """All devices at a server until it tells an event; browsers have the first numbers. What became of each."""
    first = world.site.key().public
    service = {"publicKey": first, "population": world.site.config.population}
    items = [liked[device] for device in range(count)]
    numbers = browsers.ask("open", service=service, invitations=world.invitations(count), items=items, worker=worker)
    if numbers != list(range(count)):
        raise PalateError(f"browsers must be enrolled in their order, got {numbers}")
    seeded = world.site.config.privacy.noise.value == "seeded"
    members = Members(world, len(liked) - count, dict(liked), seeded=seeded)
    with ThreadPoolExecutor(1) as pool:
        syncing = pool.submit(browsers.ask, "sync", within=SECONDS + LEAVING, seconds=SECONDS)
        try:
            world.wait(lambda: bool(world.events(until, *AMISS)), seconds=SECONDS)
            if world.events(*AMISS):
                raise PalateError(f"a cohort must come to its end, got {world.events(*AMISS, 'aborted')}")
            own = members.results(within=LEAVING)
            return syncing.result(LEAVING), [each["result"] for each in own if each["result"]]
        except BaseException:
            browsers.kill()  # they would wait for the next one
            members.process.kill()
            members.process.wait()
            raise


def cohort(_: Path, __: int) -> Any:
    """Ten browsers and twenty devices in Python train, three rounds; the reckoning makes all noise again."""
    count = BROWSERS + PYTHON
    browsers = Browsers("members.mjs")
    try:
        with tempfile.TemporaryDirectory() as home:
            world = World(
                Path(home),
                size=count,
                settings=f"{{rounds = {ROUNDS}, embedding_size = {WIDTH}, popularity_only_below = 0.0}}",
                algorithm="als",
                noise="seeded",
                every_hours=720.0,
                exchange_seconds=180.0,
                wait_seconds=300.0,
                origins=browsers.pages,
            )
            items = [f"item-{number}" for number in range(200)]
            liked = tastes(count, items)
            world.start()
            try:
                web, own = together(browsers, world, liked, worker=False, count=BROWSERS, until="closed")
                done, aborted = world.events("round"), len(world.events("aborted"))
                same = simulated(world, liked)[-1].hash == final(world)
                released = releases(world)
            finally:
                world.stop()
            told = [browsers.ask("contributed", at=at) for at in range(BROWSERS)]
    finally:
        browsers.close()
    apart, sums, sent = Counter[int](), Counter[int](), 0
    models: dict[str, bytes] = {}
    for device, vectors in enumerate(told):
        for each in vectors:
            plan, model, steps = shown_vector(each)
            read = read_plan(plan).plan
            models[read.model_hash] = model
            sent += 1
            differs = np.abs(steps - vector_of(plan, model, liked[device], items, device))
            apart.update(_counted(differs))
    for plan_of_release, steps in released:
        model = models[plan_of_release.model_hash]
        sums.update(_counted(np.abs(steps - expected(plan_of_release, model, liked, items))))
    attempts = len(done) + aborted
    each = {
        name: {
            "requests": [result["requests"] for result in results],
            "exchanges": [result["exchanges"] for result in results],
            "sent": statistics.fmean(result["sent"] for result in results) / attempts,
            "received": statistics.fmean(result["received"] for result in results) / attempts,
            "ended": dict(Counter(result["ended"] for result in results)),
            "rounds": dict(Counter(str(result["rounds"]) for result in results)),
        }
        for name, results in (("browsers", web["members"]), ("python", own))
    }
    return {
        "browsers": BROWSERS,
        "python": PYTHON,
        "users": [event["users"] for event in done],
        "seconds": [event["seconds"] for event in done],
        "aborted": aborted,
        "attempts": attempts,
        "same": same,
        "vectors": sent,
        "apart": dict(sorted(apart.items())),
        "sums": dict(sorted(sums.items())),
        "preflights": [result["preflights"] for result in web["members"]],
        "devices": each,
        "cpu": web["cpu"],
    }


def _counted(differs: npt.NDArray[np.int64]) -> dict[int, int]:
    """How many of a vector's numbers differ by how much."""
    return {int(size): int(n) for size, n in zip(*np.unique(differs, return_counts=True), strict=True)}


def cohort_tables(figures: Any) -> list[Table]:
    """What was found."""
    users, rounds, web = figures["users"], len(figures["users"]), figures["devices"]["browsers"]
    attempts = figures["attempts"]
    whole = users == [figures["browsers"] + figures["python"]] * ROUNDS
    near = max(map(int, figures["apart"])) <= 1
    own = figures["devices"]["python"]

    def a_round(each: Mapping[str, Any]) -> str:
        found = [requests / attempts for requests in each["requests"]]
        return f"{min(found):.1f} to {max(found):.1f}"

    most = max(web["requests"]) <= max(own["requests"]) + attempts
    preflights = figures["preflights"]
    rows = [
        ("rounds released, devices in each", f"{rounds}: {users}", "met" if whole else "MISSED"),
        ("attempts that were aborted, and tried again", f"{figures['aborted']}", ""),
        (
            f"numbers of the browsers' {figures['vectors']} vectors that are not Python's to the bit",
            _others(figures["apart"]),
            f"none by more than one step: {'met' if near else 'MISSED'}",
        ),
        (
            "numbers of the released sums that are not what Python reckons",
            _others(figures["sums"]),
            "",
        ),
        ("model equals the simulation's of the same histories", "yes, bit by bit" if figures["same"] else "no", ""),
        (
            "requests a browser and round",
            a_round(web),
            f"as Python's: {'met' if most else 'MISSED'}",
        ),
        ("requests a device in Python and round", a_round(own), ""),
        ("preflights a browser, in all", f"{min(preflights)} to {max(preflights)}", ""),
        ("bytes out, a browser and round; a device in Python", f"{web['sent']:,.0f}; {own['sent']:,.0f}", ""),
        ("bytes in", f"{web['received']:,.0f}; {own['received']:,.0f}", ""),
        (
            "processor of the pages, a browser and round",
            f"{figures['cpu']['pages'] / 1000 / figures['browsers'] / attempts:.2f} s",
            "",
        ),
        ("seconds of each round", ", ".join(f"{seconds:.0f}" for seconds in figures["seconds"]), ""),
    ]
    note = (
        "Seeded noise. What a browser has under its masks is compared with what Python computes, and the server's sum "
        f"with the sum of these. Requests, bytes and processor are those of {attempts} attempts."
    )
    title = f"{figures['browsers']} browsers and {figures['python']} devices in Python, distributed, masked"
    return [Table(title, ("what", "found", "bar"), rows, note)]


def _others(found: Mapping[str, int]) -> str:
    """How many numbers differ at all."""
    return f"{sum(n for size, n in found.items() if int(size)):,} of {sum(found.values()):,}"


def time(_: Path, __: int) -> Any:
    """One browser among a hundred devices, ten thousand items."""
    items = [f"item-{number}" for number in range(ITEMS)]
    liked = tastes(CROWD, items, LIKED)
    browsers = Browsers("members.mjs")
    try:
        with tempfile.TemporaryDirectory() as home:
            world = World(
                Path(home),
                size=CROWD,
                settings=f"{{rounds = 2, embedding_size = {WIDTH}, head_items = {ITEMS}, popularity_only_below = 0.0}}",
                algorithm="als",
                every_hours=720.0,
                exchange_seconds=400.0,
                wait_seconds=600.0,
                origins=browsers.pages,
                items=items,
            )
            world.start()
            try:
                web, own = together(browsers, world, liked, worker=True, count=1)
                done, aborted = world.events("round"), len(world.events("aborted"))
                coordinates = [len(steps) for _, steps in releases(world)]
            finally:
                world.stop()
            state = browsers.ask("state", at=0)
    finally:
        browsers.close()
    (result,) = web["members"]
    return {
        "devices": CROWD,
        "items": ITEMS,
        "width": WIDTH,
        "coordinates": coordinates,
        "users": [event["users"] for event in done],
        "aborted": aborted,
        "cpu": web["cpu"],
        "result": {name: result[name] for name in ("ended", "rounds", "requests", "sent", "received", "seconds")},
        "receipts": len(state["receipts"]),
        "python": len(own),
    }


def time_tables(figures: Any) -> list[Table]:
    """What the worker took."""
    cpu, result = figures["cpu"], figures["result"]
    took = cpu["workers"] / 1000
    rows = [
        ("rounds released, devices in each", f"{len(figures['users'])}: {figures['users']}", ""),
        ("attempts the browser took part in", f"{result['rounds']} (aborted: {figures['aborted']})", ""),
        (
            "processor time of the worker's thread, both rounds",
            f"{took:.2f} s",
            f"< {BAR:g} s: {'met' if took < BAR else 'MISSED'}",
        ),
        ("processor time of the whole page, ciphers of the browser included", f"{cpu['pages'] / 1000:.2f} s", ""),
        ("requests", f"{result['requests']}", ""),
        ("bytes out, bytes in", f"{result['sent']:,}, {result['received']:,}", ""),
    ]
    sizes = " and ".join(f"{each:,}" for each in figures["coordinates"])
    note = f"{sizes} numbers a vector. From the call of `sync` to its end."
    title = (
        f"A browser's masked rounds, {figures['items']:,} items, d = {figures['width']}, {figures['devices']} devices"
    )
    return [Table(title, ("what", "found", "bar"), rows, note)]


def kills(_: Path, count: int) -> Any:
    """One browser among five devices in Python, killed at random moments of its answers, again and again."""
    return _among_others(lambda ask: {"kills": count, "others": OTHERS, "found": ask(times=count)})


def controls(_: Path, __: int) -> Any:
    """The same with devices that don't keep a promise, which must be noticed."""

    def noticed(ask: Callable[..., Any], name: str) -> str:
        try:
            ask(times=CONTROL_KILLS, spoil=name)
        except PalateError as error:
            said = next((words for words in CONTROLS[name] if words in str(error)), None)
            if said is not None:
                return said
            raise
        raise PalateError(f"a device without its {name!r} must be noticed, and was not in {CONTROL_KILLS} kills")

    return _among_others(lambda ask: {"noticed": {name: noticed(ask, name) for name in CONTROLS}})


def _among_others(work: Callable[[Callable[..., Any]], dict[str, Any]]) -> dict[str, Any]:
    """Browsers that are killed, each with an invitation of its own, beside five devices in Python at a real server."""
    browsers = Browsers("attempts.mjs")
    try:
        with tempfile.TemporaryDirectory() as home:
            world = World(
                Path(home),
                size=OTHERS + 1,
                algorithm="als",
                settings=f"{{rounds = 8, embedding_size = {WIDTH}, popularity_only_below = 0.0}}",
                dropout=0.17,
                every_hours=0.01,  # whoever is told to come again has left before the next run gathers
                exchange_seconds=12.0,
                wait_seconds=60.0,
                origins=browsers.pages,
            )
            items = [f"item-{number}" for number in range(200)]
            service = {"publicKey": world.site.key().public, "population": world.site.config.population}
            given = {"port": world.site.config.gateway.port, "service": service, "items": items, "seed": 1}
            world.start()
            try:
                with world.fleet(OTHERS):
                    found = work(
                        lambda times, **more: browsers.ask(
                            "kill",
                            within=KILL * times,
                            invitation=world.invitations(1)[0],
                            times=times,
                            **given,
                            **more,
                        )
                    )
                done, aborted = world.events("round"), len(world.events("aborted"))
            finally:
                world.stop()
    finally:
        browsers.close()
    return {**found, "released": len(done), "aborted": aborted}


def kills_tables(figures: Any) -> list[Table]:
    """What was done, and that nothing was wrong: the driver ends with the first broken promise."""
    found = figures["found"]
    steps = ("advertise", "share", "check", "input", "consistency", "unmask")
    places = {
        "asked": "as it works on the answer, or sends it",
        "leaving": "as the answer leaves, and is lost",
        "arrived": "as the server has the answer",
    }
    rows = [
        (words, *(str(found["moments"].get(f"{step} {place}", 0)) for step in steps)) for place, words in places.items()
    ]
    note = (
        f"{figures['kills']} kills: {found['tab']} of the tab, {found['browser']} of the whole browser, "
        f"{found['elsewhere']} of them at no such moment in 90 s. Something had left of {found['attempts']} attempts, "
        f"of {found['vectors']} the vector: {found['answers']} answers; and {found['refusals']} refusals. "
        f"{figures['released']} rounds were released, {figures['aborted']} attempts given up. Broken promises: none."
    )
    title = f"A browser killed as it answers, among {figures['others']} devices in Python"
    return [Table(title, ("killed", *steps), rows, note)]


def controls_tables(figures: Any) -> list[Table]:
    """What was said of each device."""
    words = {
        "charge": "charges nothing",
        "note": "has no note of what leaves",
    }
    rows = [(words[name], f"`{said}`") for name, said in figures["noticed"].items()]
    note = "The same kills and the same judge, with a line taken out of the browser's device."
    return [Table("Browsers that don't keep a promise", ("a device that", "noticed as"), rows, note)]


PARTS = {
    "cohort": Part(cohort, cohort_tables, seeds="5"),
    "time": Part(time, time_tables, seeds="5"),
    "kills": Part(kills, kills_tables, seeds="1"),
    "controls": Part(controls, controls_tables, seeds="1"),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=200, needs_data=False)
