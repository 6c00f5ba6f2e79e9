"""The sandbox: whether the assumed people come back more, and whether a server's error bars hold the truth.

PYTHONPATH=simulations python simulations/benchmarks/sandbox/run.py [--parts switch,others,few,bars,whole] [--seeds 5]
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.serve.world import free_ports
from benchmarks.sheet import Part, Table, main, mean_interval
from palate_core.errors import PalateError
from palate_sandbox.config import POLICIES, SandboxConfig, load
from palate_sandbox.folder import sandbox_folder
from palate_sandbox.report import facts
from palate_sandbox.world import SandboxWorld

PROMISE = "delta 1e-6, unit: one installation, adjacency: zero-out, accountant: Palate's closed form"
FIRST, BARS = 100, 60
"""The first seed of the part `bars`, which has its own, and how many worlds it lives."""


def lived(config: SandboxConfig, *, shadows: bool = True) -> dict[str, Any]:
    """The report of one world."""
    with sandbox_folder() as folder, SandboxWorld(config, folder, shadows=shadows) as world:
        for _ in world.live():
            pass
        return facts(world)


def policies(seeds: int, **given: Any) -> Any:
    """D7 and D30 of each policy and seed; one life and its two shadows each."""
    found: dict[str, list[dict[str, float]]] = {policy: [] for policy in POLICIES}
    cells = Counter[str]()
    for seed in range(seeds):
        report = lived(load(None, {"people": 0, "seed": seed, **given}))
        for name, each in report["policies"].items():
            life = {key: each[key]["share"] for key in ("d7", "d30")}
            life |= {"taken": each["taken_a_visit"], "visits": each["visits"]}
            found[name.removesuffix(" (shadow)")].append(life)
        cells.update(told=report["surveys"]["told"], hold=report["surveys"]["hold"])
    return {"given": given, "policies": found, "epsilon": report["privacy"]["epsilon"], "cells": dict(cells)}


def switch(_: Path, seeds: int) -> Any:
    """The defaults."""
    return {"films": policies(seeds, scenario="films")}


def others(_: Path, seeds: int) -> Any:
    """Each other scenario."""
    return {scenario: policies(seeds, scenario=scenario) for scenario in ("shop", "news", "music")}


def few(_: Path, seeds: int) -> Any:
    """Fewer people, and twice as many films."""
    return {"films": policies(seeds, scenario="films", crowd=6000, items=1000)}


def policy_tables(figures: Any, title: str = "Who comes back") -> list[Table]:
    """One row a scenario and policy, with the differences of pairs."""
    rows = []
    for scenario, each in figures.items():
        lives = each["policies"]
        for policy in POLICIES:
            shares = [mean_interval([life[key] for life in lives[policy]]) for key in ("d7", "d30")]
            leads = []
            for key in ("d7", "d30"):
                pairs = zip(lives["palate"], lives[policy], strict=True)
                lead, off = mean_interval([own[key] - other[key] for own, other in pairs])
                leads.append("" if policy == "palate" else _lead(lead, off))
            taken, _ = mean_interval([life["taken"] for life in lives[policy]])
            cells = [f"{mean:.1%} ± {100 * off:.1f}" for mean, off in shares]
            rows.append((scenario, policy, *cells, *leads, f"{taken:.2f}"))
    leads_of = [f"Palate's {what} less its, points" for what in ("D7", "D30")]
    header = ("scenario", "shown", "D7", "D30", *leads_of, "taken a visit")
    first = next(iter(figures.values()))
    people, items = first["given"].get("crowd", 10_000), first["given"].get("items", 500)
    seeds, epsilon = len(first["policies"]["palate"]), max(each["epsilon"] for each in figures.values())
    note = (
        f"{people:,} hosted people, up to {items:,} items, 60 days, {seeds} seeds: in each the same people meet the "
        "same chance under each policy. Means of seeds with 95 % intervals by Student's t; differences are of pairs. "
        f"All that was released, models and surveys, cost eps {epsilon:.2f} ({PROMISE}). Popularity is true, without "
        "noise. This is what the assumed people do; what is assumed stands in docs/tutorials/sandbox.md."
    )
    return [Table(title, header, rows, note)]


def bars(_: Path, seeds: int) -> Any:
    """How often a survey's interval holds the truth, by figure, over independent worlds."""
    inside, told, suppressed = Counter[str](), Counter[str](), 0
    for seed in range(FIRST, FIRST + BARS):
        given = {"scenario": "news", "items": 60, "people": 0, "crowd": 3000, "seed": seed, "policy": "none"}
        report = lived(load(None, given | {"operation": {"first_training": 61}}), shadows=False)
        for each in report["surveys"]["figures"]:
            if each["holds"] is None:
                suppressed += 1
                continue
            told[each["name"]] += 1
            inside[each["name"]] += each["holds"]
    return {"worlds": BARS, "suppressed": suppressed, "figures": {name: [inside[name], told[name]] for name in told}}


def bars_tables(figures: Any) -> list[Table]:
    """One row a figure, and all of them."""
    rows = [(name, f"{n:,}", f"{held / n:.1%}", "") for name, (held, n) in figures["figures"].items()]
    held, n = (sum(each[place] for each in figures["figures"].values()) for place in (0, 1))
    met = "met" if 0.94 <= held / n <= 0.96 and n >= 2000 else "MISSED"
    rows.append(("all", f"{n:,}", f"{held / n:.2%}", f"94 to 96 % of >= 2,000: {met}"))
    note = (
        f"{figures['worlds']} independent worlds of 3,000 hosted people and 60 days, a survey a week at eps 1 "
        f"({PROMISE}), through the server's own round with secure noise. The truth is computed from who came on which "
        f"day, of those whose devices answer; {figures['suppressed']:,} figures were suppressed, since too few people "
        "are in their groups, and are not counted. Figures of a week share noise (stickiness with dau and mau; both "
        "retentions), so that cells are fewer than they look. Intervals of shares are cut at 0 and "
        "1. Churn of a first week is 0 by definition: one in 40 of its intervals should miss that, and not one in 20."
    )
    return [Table("Error bars against the truth", ("figure", "intervals", "that hold the truth", "bar"), rows, note)]


def whole(_: Path, seeds: int) -> Any:
    """A whole sandbox, 100 people with devices among them: how long it takes, and when a page shows the first day."""
    shown = first_figures()
    begun, cpu = time.monotonic(), time.process_time()
    report = lived(load())
    return {
        "page": shown,
        "seconds": time.monotonic() - begun,
        "cpu": time.process_time() - cpu,
        "told": report["surveys"]["told"],
        "hold": report["surveys"]["hold"],
        "epsilon": report["privacy"]["epsilon"],
    }


def first_figures() -> float:
    """Seconds from the command to a page on which a day is lived."""
    (port, *_), begun = free_ports(), time.monotonic()
    command = [sys.executable, "-m", "palate_cli", "sandbox", "--no-browser", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
                    if b'value="0" aria-label="Days that are lived"' not in page.read():
                        return time.monotonic() - begun
                time.sleep(0.1)
            raise PalateError("the sandbox ended before it had a page")
        finally:
            process.terminate()


def whole_tables(figures: Any) -> list[Table]:
    """One row."""
    met = {name: "met" if figures[name] <= most else "MISSED" for name, most in (("page", 60), ("cpu", 600))}
    row = (
        "100 and 10,000", "60", f"{figures['page']:.0f} s", f"<= 60 s: {met['page']}", f"{figures['cpu']:.0f} s",
        f"<= 600 s: {met['cpu']}", f"{figures['seconds']:.0f} s", f"{figures['hold']} of {figures['told']}",
    )  # fmt: skip
    header = (
        "people with devices, and hosted", "days", "a page with figures after", "bar", "all days, processor", "bar",
        "on the clock", "intervals that hold",
    )  # fmt: skip
    note = (
        f"As `palate sandbox` and `--headless-report` live it; eps {figures['epsilon']:.2f} in all ({PROMISE}). Clock "
        "times are of a machine that others used at the same time."
    )
    return [Table("A whole sandbox", header, [row], note)]


def _lead(lead: float, off: float) -> str:
    said = "no difference shown" if abs(lead) <= off else "more" if lead > 0 else "fewer"
    return f"{100 * lead:+.2f} ± {100 * off:.2f}: {said}"


PARTS = {
    "switch": Part(switch, policy_tables),
    "others": Part(others, partial(policy_tables, title="Who comes back: shop, news, music")),
    "few": Part(few, partial(policy_tables, title="Who comes back: fewer people, more films")),
    "bars": Part(bars, bars_tables, seeds=f"{FIRST} to {FIRST + BARS - 1}"),
    "whole": Part(whole, whole_tables, seeds="0"),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, needs_data=False)
