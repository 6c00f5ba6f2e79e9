"""Secure aggregation: what masks cost a server and a device, beside the cryptography that nobody can do without.

PYTHONPATH=simulations python simulations/benchmarks/secagg/run.py \\
    [--parts small,vector,large,flower,dropouts,hostile,blame,crowd,fuzz,subcohorts] [--seeds 1]
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.secagg.cost import MaskingCost, Scale, measure
from benchmarks.secagg.dropouts import outcomes
from benchmarks.secagg.subcohorts import DEVICES, ITEMS, TRIED, split, tried
from benchmarks.sheet import Part, Table, main
from mechanism.secagg.fuzz import fuzz
from mechanism.secagg.hostile import HOSTILE, NAMED, PLANS, POISON, live, play
from palate_core.errors import PalateError
from palate_core.masks.graph_terms import LARGEST_COMPLETE

RATIO, UPLOAD, FLOWER = 1.6, 1.03, 50.0
ATTEMPTS, RECORDS = 1000, 100_000
SUBCOHORTS = 10
LARGE_PLANS = ("deals rubbish to all", "gives wrong shares of all")
HOSTILE_PLANS = {
    8: tuple(sorted(PLANS.keys() - POISON - {plan for plan in PLANS if " at commit" in plan})),
    30: (*LARGE_PLANS, "deals wrong shares to half", "complains of all", "deals another secret and is lost"),
    100: LARGE_PLANS,
    300: LARGE_PLANS,
}
"""Everything at 8 devices; the larger the cohort, the fewer."""
COUNTED = ("deals wrong shares to one", "deals wrong shares to one and is lost")
"""Of those that deal another secret, who leaves enough of the right shares."""
LIES = {
    "false boxes": (*NAMED["box"], *NAMED["opening"]),
    "false complaints": tuple(plan for plan in NAMED["complaint"] if "at check" not in plan),
    "false shares": NAMED["share"],
    "false reveals of nonces": NAMED["nonce"],
    "keys that are none": NAMED["advert"],
    "few wrong shares dealt": COUNTED,
    "mixtures of these": tuple(plan for kind in NAMED if kind != "dealt" for plan in NAMED[kind]),
    "another secret dealt": ("deals another secret",),
}
HONEST_ROUNDS, CROWD, LIARS = 10_000, 30, 3
BEFORE = {"device_ms": 29.1, "server_ms": 159.0, "upload": 314_936, "packed": 300_192}
"""Version 2 of the records, at commit 47802b8: one attempt at the scale of `MIDDLE`, the best of three."""
SMALL = Scale(devices=60, coordinates=10_000, corrupt=6, dropped=6)
VECTOR = Scale(devices=1000, coordinates=100_000, corrupt=100, dropped=100)
LARGE = Scale(devices=1000, coordinates=1_000_000, corrupt=100, dropped=100)
MIDDLE = Scale(devices=100, coordinates=100_000, corrupt=10, dropped=10)
BESIDE = Scale(devices=50, coordinates=100_000, corrupt=5, dropped=5)


def attempts(scale: Scale, *, bars: bool, upload: float | None = None) -> Part:
    """One attempt a seed, with the ratios' bars or without."""

    def measured(_: Path, seeds: int) -> Any:
        costs = [measure(scale, seed=seed) for seed in range(seeds)]
        if not all(cost.exact for cost in costs):
            raise PalateError("the sum of the survivors must be exact, got another")
        return [figures(cost) for cost in costs]

    return Part(measured, lambda costs: tables(costs, RATIO if bars else None, upload))


def figures(cost: MaskingCost) -> dict[str, Any]:
    """Every value of an attempt."""
    graph = asdict(cost.graph) | {name: str(getattr(cost.graph, name)) for name in ("failure", "abort")}
    return asdict(cost) | {"graph": graph}


def tables(costs: Any, ratio: float | None, upload: float | None) -> list[Table]:
    """Totals of each attempt, and the steps of the first."""
    first = costs[0]
    scale, graph = first["scale"], first["graph"]
    rows = []
    for name, side in (("server", "server"), ("a device", "device")):
        for cost in costs:
            taken, floor = (sum(cost[side][what].values()) for what in ("taken", "floor"))
            rows.append(
                (name, f"{taken * 1e3:,.1f}", f"{floor * 1e3:,.1f}", f"{taken / floor:.2f}",
                 judged(taken / floor, ratio))
            )  # fmt: skip
    sent = first["upload"] / first["packed"]
    rows += [
        (
            "upload a device, bytes",
            f"{first['upload']:,.0f}",
            f"{first['packed']:,}",
            f"{sent:.4f}",
            judged(sent, upload),
        ),
        ("noise share a device, beside", f"{first['noise_seconds'] * 1e3:,.1f}", "", "", ""),
    ]
    shape = "complete graph" if graph["complete"] else "ring"
    note = (
        f"CPU milliseconds. {shape}, k = {graph['neighbours']}, t = {graph['threshold']}, "
        f"{scale['corrupt']} corrupt are borne, {scale['dropped']} are lost after their shares; {first['bits']} bits a "
        f"coordinate; sum of {first['survivors']} survivors exact; peak memory {first['peak_mib']:,.0f} MiB. The "
        "floor: keystreams of all masks, X25519 and Ed25519 alone, in the "
        f"same run; of the upload, the packed vector. A device: mean of {first['timed']}."
    )
    title = f"{scale['devices']:,} devices, {scale['coordinates']:,} coordinates"
    sides = [values for side in ("server", "device") for values in (first[side]["taken"], first[side]["floor"])]
    steps = [
        (step.lower(), *(f"{1e3 * values.get(step, 0):,.2f}" for values in sides)) for step in first["server"]["taken"]
    ]
    return [
        Table(title, ("what", "taken", "floor", "ratio", "bar"), rows, note),
        Table(f"{title}: steps", ("step", "server", "its floor", "a device", "its floor"), steps, "CPU milliseconds."),
    ]


def judged(value: float, bar: float | None) -> str:
    """A bar, and whether it is met."""
    return "" if bar is None else f"<= {bar:g}: {'met' if value <= bar else 'MISSED'}"


def flower(_: Path, seeds: int) -> Any:
    """Flower's SecAgg+ and Palate's, the same cohort, vectors of the same length, the same devices lost."""
    from benchmarks.secagg.flower import measure_flower

    logging.getLogger("flwr").setLevel(logging.ERROR)
    found = []
    for seed in range(seeds):
        lost = np.random.default_rng(seed).permutation(BESIDE.devices)[: BESIDE.dropped].tolist()
        cost = measure(BESIDE, seed=seed)
        other = measure_flower(
            devices=BESIDE.devices,
            coordinates=BESIDE.coordinates,
            threshold=cost.graph.threshold,
            lost=lost,
            seed=seed,
        )
        if not cost.exact or other.error > 1e-4:
            raise PalateError(f"both sums must be right, got exact {cost.exact} and an error of {other.error}")
        factor = other.server_seconds / cost.server.seconds
        found.append({"palate": figures(cost), "flower": asdict(other), "factor": factor})
    return found


def flower_tables(found: Any) -> list[Table]:
    """Server and device of each attempt."""
    rows = []
    for each in found:
        for name, side, bar in (("server", "server", FLOWER), ("a device", "device", None)):
            ours, theirs = sum(each["palate"][side]["taken"].values()), each["flower"][f"{side}_seconds"]
            verdict = "" if bar is None else f">= {bar:g} x: {'met' if theirs / ours >= bar else 'MISSED'}"
            rows.append((name, f"{ours * 1e3:,.1f}", f"{theirs * 1e3:,.1f}", f"{theirs / ours:,.0f} x", verdict))
    threshold = found[-1]["palate"]["graph"]["threshold"]
    note = (
        f"CPU milliseconds; {BESIDE.devices} devices, complete graph, threshold {threshold}, "
        f"{BESIDE.dropped} lost after their shares, {BESIDE.coordinates:,} coordinates. Flower 1.42: "
        "SecAggPlusWorkflow and secaggplus_mod as they are, nothing serialised; its devices sign nothing and check no "
        "signatures."
    )
    return [Table("Beside Flower's SecAgg+", ("CPU of", "Palate", "Flower", "factor", "bar"), rows, note)]


def dropouts(_: Path, seeds: int) -> Any:
    """Attempts with losses at every step."""
    return outcomes(ATTEMPTS, seed=1)


def dropouts_tables(found: Any) -> list[Table]:
    """One row a share of lost devices."""
    rows = [(band, str(exact), str(ended)) for band, (exact, ended) in sorted(found.items())]
    note = f"{ATTEMPTS} attempts of 8 to 30 devices, seed 1, a quarter of them rings. Wrong sums: 0."
    return [Table("Losses at every step", ("of the devices are lost", "exact sum", "ended without"), rows, note)]


def hostile(_: Path, seeds: int) -> Any:
    """One hostile device in cohorts of several sizes."""
    found = []
    for devices, plans in HOSTILE_PLANS.items():
        dropped = max(1, devices // 10)
        for plan in plans:
            n_max = devices if devices > LARGEST_COMPLETE else None
            life = live(plan, devices=devices, n_min=devices - dropped, c_max=dropped, n_max=n_max)
            if life.lost > 1 or life.named.keys() - {HOSTILE} or (life.lost and not life.named):
                raise PalateError(f"one attempt at most may be lost, and its device named, got {life} of {plan}")
            found.append({"devices": devices, "plan": plan, "lost": life.lost, "named": len(life.named)})
    return found


def hostile_tables(found: Any) -> list[Table]:
    """One row a size and plan."""
    rows = [(str(each["devices"]), each["plan"], str(each["lost"]), "yes" if each["named"] else "no") for each in found]
    note = "Two attempts with one device that does this; 10 % corrupt are borne, 10 % may be lost. Sums exact."
    return [Table("One hostile device", ("devices", "it", "attempts lost", "named"), rows, note)]


def blame(_: Path, seeds: int) -> Any:
    """Ten of a hundred that lie, and what it costs those who don't that they are named."""
    kinds = {plan: kind for kind, plans in NAMED.items() for plan in plans}
    hundred = []
    for what, plans in LIES.items():
        rng = np.random.default_rng(1)
        liars = {int(device): plans[each % len(plans)] for each, device in enumerate(rng.permutation(100)[:10])}
        life = play(liars, devices=100, n_min=90, c_max=10, n_max=251, attempts=2, seed=1)
        right = life.named == {device: kinds[plan] for device, plan in liars.items()}
        hundred.append({"what": what, "lost": life.lost, "named": len(life.named), "right": right})
    costs = [measure(MIDDLE, seed=seed) for seed in range(3)]
    best = min(costs, key=lambda cost: cost.device.seconds)
    after = {"device_ms": best.device.seconds * 1e3, "server_ms": best.server.seconds * 1e3}
    after |= {"upload": best.upload, "packed": best.packed}
    return {"hundred": hundred, "before": BEFORE, "after": after}


def blame_tables(found: Any) -> list[Table]:
    """Who is named, and what that costs."""
    rows = [
        (each["what"], str(each["named"]), "yes" if each["right"] else "NO", str(each["lost"]))
        for each in found["hundred"]
    ]
    note = "100 devices, 10 of which do this, 10 % may be lost; two attempts. Sums exact, records checked."
    before, after = found["before"], found["after"]
    costs = [
        (name, *(f"{each[key] / (1000 if key == 'upload' else 1):,.1f}" for each in (before, after)))
        for name, key in (
            ("CPU of a device, ms", "device_ms"),
            ("CPU of the server, ms", "server_ms"),
            ("sent by a device, kB", "upload"),
        )
    ]  # fmt: skip
    scale = f"{MIDDLE.devices} devices, 99 neighbours, {MIDDLE.coordinates:,} coordinates, 10 lost; the best of three."
    return [
        Table("Ten of a hundred lie", ("they send", "named", "all of them, nobody else", "attempts lost"), rows, note),
        Table("What evidence costs", ("", "without: version 2", "with: version 3"), costs, scale),
    ]


def crowd(_: Path, seeds: int) -> Any:
    """Liars up to c_max beside devices that are lost."""
    plans = sorted(PLANS.keys() - POISON)
    honest = attempts = named = struck = released = 0
    while honest < HONEST_ROUNDS:
        rng = np.random.default_rng(attempts)
        liars = {int(device): str(rng.choice(plans)) for device in rng.permutation(CROWD)[:LIARS]}
        life = play(liars, devices=CROWD, n_min=22, c_max=LIARS, n_max=251, attempts=3, lost=0.1, seed=attempts)
        honest += (CROWD - LIARS) * (life.released + life.lost)
        attempts, released = attempts + life.released + life.lost, released + life.released
        named, struck = named + len(life.named), struck + len(life.named.keys() - liars.keys())
    return {"honest": honest, "attempts": attempts, "released": released, "named": named, "struck": struck}


def crowd_tables(crowd: Any) -> list[Table]:
    """Whom ten thousand honest device-rounds name."""
    row = (
        f"{crowd['honest']:,} honest device-rounds",
        str(crowd["attempts"]), str(crowd["released"]), str(crowd["named"]), str(crowd["struck"]),
    )  # fmt: skip
    beside = f"Cohorts of {CROWD}, {LIARS} of which do anything at all; each honest device is lost with chance 10 %."
    heads = ("", "attempts", "released", "liars named", "honest struck")
    return [Table("Nobody honest is struck", heads, [row], beside)]


def broken(_: Path, seeds: int) -> Any:
    """Broken records."""
    report = fuzz(RECORDS, seed=1)
    if report.refused != report.tried:
        raise PalateError(f"every broken record must be refused, got {report.refused} of {report.tried}")
    return asdict(report)


def broken_tables(figures: Any) -> list[Table]:
    """One row a step."""
    rows = [(name, f"{count:,}") for name, count in sorted(figures["by_step"].items())]
    note = f"{figures['refused']:,} of {figures['tried']:,} broken records refused by name, seed 1."
    return [Table("Broken records", ("to", "records"), rows, note)]


def subcohorts(_: Path, seeds: int) -> Any:
    """One cohort and ten sub-cohorts of the same devices."""
    found = {"rounds": [split(number) for number in (1, SUBCOHORTS)], "tried": [tried(number) for number in (1, 2)]}
    if not all(each["exact"] and each["as_the_law"] for each in found["tried"]):
        raise PalateError(f"sums must be exact, and bytes as the law has them, got {found['tried']}")
    return found


def subcohorts_tables(found: Any) -> list[Table]:
    """Cost and noise of a round, and bytes of a device."""
    one, many = found["rounds"]
    root, apart = many["noise"] / one["noise"], many["mu"] / one["mu"] - 1
    noise = [
        (
            f"{each['subcohorts']} x {each['each']:,}",
            f"{each['mu']:.6f}", f"{each['device_mu']:.6f}", f"{each['noise'] / each['grid']:.3f}",
        )
        for each in (one, many)
    ]  # fmt: skip
    verdict = "met" if apart == 0 and abs(root / SUBCOHORTS**0.5 - 1) < 0.03 else "MISSED"
    noise.append(
        ("bar", "the same", "the same", f"x {root:.3f}, root {SUBCOHORTS} is {SUBCOHORTS**0.5:.3f}: {verdict}")
    )
    rows = []
    for here, there in zip(one["traffic"], many["traffic"], strict=True):
        whole, part = (each["received"] + each["sent"] for each in (here, there))
        rows.append(
            (
                f"{here['coordinates']:,} coordinates", f"{whole:,}", f"{part:,}", f"1 / {whole / part:.1f}",
                f"1 / {here['received'] / there['received']:.1f}", judged(part / whole, 0.125),
            )
        )  # fmt: skip
    beside = (
        f"{DEVICES:,} devices that have done nothing, popularity of {ITEMS:,} items, secure noise; 10 % corrupt and "
        "10 % lost in each cohort. Noise: the standard deviation of what was released, in clip norms. mu by the "
        "population's ledger, and by a device's: unit user, adjacency zero-out."
    )
    apart_note = (
        "Received and sent, with the directory, without plan and model; nobody is lost. What grows with the cohort is "
        f"a tenth; what a device sends its {many['traffic'][0]['neighbours']} neighbours, and its vector, isn't. A "
        f"masked attempt of {TRIED} real devices in one cohort, and in two, has sent each of these bytes."
    )
    heads = ("", "1 cohort", f"{SUBCOHORTS} sub-cohorts", "all", "received", "bar")
    return [
        Table("Sub-cohorts: cost and noise", ("sub-cohorts", "mu", "a device's mu", "noise"), noise, beside),
        Table("Sub-cohorts: bytes of a device", heads, rows, apart_note),
    ]


PARTS = {
    "small": attempts(SMALL, bars=False),
    "vector": attempts(VECTOR, bars=True),
    "large": attempts(LARGE, bars=True, upload=UPLOAD),
    "flower": Part(flower, flower_tables),
    "dropouts": Part(dropouts, dropouts_tables),
    "hostile": Part(hostile, hostile_tables),
    "blame": Part(blame, blame_tables),
    "crowd": Part(crowd, crowd_tables),
    "fuzz": Part(broken, broken_tables),
    "subcohorts": Part(subcohorts, subcohorts_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
