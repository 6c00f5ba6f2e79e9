"""The audit of a mechanism: how tight its bounds are, how often they are wrong, what it finds, and what it costs.

PYTHONPATH=simulations python simulations/benchmarks/audit/run.py \\
    [--parts tight,messages,covered,clean,whole,deficit,cost,foreign] [--seeds 20]
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.audit.clean import DELTA, EPSILONS, MODES, clean, clean_tables, whole, whole_tables
from benchmarks.audit.cost import cost, cost_tables
from benchmarks.audit.covered import covered, covered_tables
from benchmarks.sheet import Part, Table, main
from mechanism.harness.messages import DeviceMessages
from palate_audit.counted.claims import lower_bounds
from palate_audit.evidence.evidence import Verdict, judge
from palate_audit.harness.production import Production
from palate_audit.harness.trials import conduct
from palate_audit.run.mechanism import DEEP, QUICK, audit_mechanism, statistical
from palate_common.rounds import shares
from palate_server.rounds import noise

DEFICITS = (0.995, 0.998)
FOREIGN = (
    "flower:fixed_clipping",
    "flower:client_side_clipping",
    "flower:fixed_clipping_weighted",
    "flower:adaptive_clipping",
    "opacus:full_batch",
    "opacus:poisson",
    "opacus:per_layer",
    "opacus:adaptive",
    "jax_privacy:full_batch",
    "jax_privacy:poisson",
    "jax_privacy:banded",
    "pfl_research:gaussian",
    "pfl_research:adaptive",
    "pfl_research:banded",
)
FOREIGN_SEEDS = 3
EXACT = ("neighbouring worlds", "each user's share")


def tight(_: Path, seeds: int) -> Any:
    """Each rung's bound over the claimed epsilon."""
    figures = []
    for dp in MODES:
        for epsilon in EPSILONS:
            target = Production(dp=dp, epsilon=epsilon, delta=DELTA)
            ratios: dict[str, list[float]] = {}
            seconds = []
            for seed in range(seeds):
                begun = time.process_time()
                for bound in lower_bounds(conduct(target, runs=QUICK, seed=seed)):
                    ratios.setdefault(f"{bound.rung.value} {bound.name}", []).append(bound.ratio)
                seconds.append(time.process_time() - begun)
            figures.append({"dp": dp, "epsilon": epsilon, "ratios": ratios, "cpu_seconds": seconds})
    return figures


def tight_tables(figures: Any) -> list[Table]:
    """One row a mode and epsilon."""
    seeds = len(figures[0]["cpu_seconds"])
    names = list(figures[0]["ratios"])
    rows = [
        (each["dp"], f"{each['epsilon']:g}", *_medians(each["ratios"], names), f"{max(each['cpu_seconds']):.1f}")
        for each in figures
    ]
    note = (
        f"Median over {seeds} seeds, each bound at 95 % by itself, delta {DELTA:g}, "
        "unit user, adjacency zero-out; 65,536 canaries, 524,288 coordinates, 3 releases a run; `distributed` with "
        "masks off."
    )
    return [Table("Lower bound / claimed epsilon", ("--dp", "epsilon", *names, "CPU s"), rows, note)]


def messages(_: Path, seeds: int) -> Any:
    """What each device sends with dp local: every counted test, and the bounds over the claimed epsilon."""
    figures = []
    for epsilon in (1.0, 8.0):
        target = DeviceMessages(epsilon=epsilon, delta=DELTA)
        ratios: dict[str, list[float]] = {}
        alarms, begun = list[str](), time.process_time()
        for seed in range(seeds):
            trials = conduct(target, runs=QUICK, seed=seed)
            alarms += [each.test for each in judge(statistical(trials)) if each.verdict is Verdict.ALARM]
            for bound in lower_bounds(trials):
                ratios.setdefault(f"{bound.rung.value} {bound.name}", []).append(bound.ratio)
        spent = (time.process_time() - begun) / seeds
        figures.append({"epsilon": epsilon, "ratios": ratios, "alarms": alarms, "cpu_seconds": spent})
    return figures


def messages_tables(figures: Any) -> list[Table]:
    """One row an epsilon."""
    seeds = len(next(iter(figures[0]["ratios"].values())))
    names = list(figures[0]["ratios"])
    rows = [
        (
            f"{each['epsilon']:g}",
            *_medians(each["ratios"], names),
            f"{len(each['alarms'])} in {seeds} audits",
            f"{each['cpu_seconds']:.0f}",
        )
        for each in figures
    ]
    note = (
        f"Median over {seeds} seeds, each bound at 95 % by itself, delta {DELTA:g}, "
        f"unit user, adjacency zero-out; {DeviceMessages().users:,} canaries, each a device and a node, "
        "3 runs of 3 releases."
    )
    header = ("epsilon", *names, "alarms", "CPU s an audit")
    return [Table("Dp local: what a device sends, lower bound / claimed epsilon", header, rows, note)]


def _medians(ratios: Mapping[str, Sequence[float]], names: Sequence[str]) -> list[str]:
    return [f"{np.median(ratios[name]):.3f}" for name in names]


@contextmanager
def quieter(factor: float) -> Iterator[None]:
    """Every draw of noise is smaller than charged."""
    real = noise.sample_discrete_gaussian

    def draw(n: int, *, sigma: int, source: Any) -> Any:
        return real(n, sigma=round(sigma * factor), source=source)

    with (
        mock.patch.object(noise, "sample_discrete_gaussian", draw),
        mock.patch.object(shares, "sample_discrete_gaussian", draw),
    ):
        yield


def deficit(_: Path, seeds: int) -> Any:
    """Noise that is a little too small."""
    figures = []
    for dp in MODES:
        for factor in DEFICITS:
            for deep in (False, True):
                values = []
                for seed in range(min(seeds, 10)):
                    with quieter(factor):
                        trials = conduct(
                            Production(dp=dp),
                            runs=DEEP if deep else QUICK,
                            seed=seed,
                        )
                    found = judge(statistical(trials))
                    values.append([each.test for each in found if each.verdict.value == "alarm"])
                numbers = sum(len(each) for _, _, each in trials.noises())
                figures.append({"dp": dp, "factor": factor, "deep": deep, "alarms": values, "numbers": numbers})
    return figures


def deficit_tables(figures: Any) -> list[Table]:
    """One row a mode, deficit and battery."""
    rows = []
    for each in figures:
        caught = sum(bool(tests) for tests in each["alarms"])
        by = sorted({test for tests in each["alarms"] for test in tests})
        found = f"{caught} of {len(each['alarms'])}"
        mode = "deep" if each["deep"] else "quick"
        rows.append((each["dp"], f"{each['factor']:g}", mode, f"{each['numbers']:,}", found, ", ".join(by)))
    note = "Standard deviation of every draw, over what was charged. Family-wise alpha 1e-6."
    header = ("--dp", "noise", "battery", "numbers", "found", "by")
    return [Table("Noise that is too small", header, rows, note)]


def foreign(_: Path, seeds: int) -> Any:
    """Other people's mechanisms, as they come."""
    figures = []
    for spec in FOREIGN:
        module, _, name = spec.partition(":")
        target = getattr(importlib.import_module(f"mechanisms.{module}"), name)()
        ratios: dict[str, list[float]] = {}
        alarms: list[dict[str, str]] = []
        moved: list[float] = []
        begun = time.process_time()
        runs = 1 if target.claim.sampling < 1 else FOREIGN_SEEDS
        for seed in range(runs):
            section = audit_mechanism(target, seed=seed)
            alarms.append({found.test: found.sentence for found in section.alarms})
            for bound in section.bounds:
                ratios.setdefault(f"{bound.rung.value} {bound.name}", []).append(bound.epsilon)
            for found in section.findings:
                if found.test in EXACT:
                    moved.append(float(found.figures.get("moved") or found.figures.get("most") or 0.0))
        figures.append(
            {
                "target": spec,
                "name": target.name,
                "claimed": target.claim.epsilon,
                "stated": dict(getattr(target, "stated", {})),
                "bounds": ratios,
                "moved": max(moved, default=None),
                "alarms": alarms,
                "cpu_seconds": (time.process_time() - begun) / runs,
            }
        )
        print(spec, "done", flush=True)
    return figures


def foreign_tables(figures: Any) -> list[Table]:
    """One row a mechanism, and one an alarm."""
    rows, found = [], []
    for each in figures:
        alarms, letters = each["alarms"], letters_of(each["alarms"])
        best = [
            max((float(np.median(v)) for name, v in each["bounds"].items() if name.startswith(rung)), default=None)
            for rung in ("L0", "L1", "L2")
        ]
        numbers = ["-" if bound is None else f"{bound:.2f}" for bound in best]
        own = ", ".join(f"{name} {value:.2f}" for name, value in _own(each))
        moved = "-" if each["moved"] is None else f"{each['moved']:.3f}"
        often = f"in {sum(map(bool, alarms))} of {len(alarms)}"
        said = f"{len(letters)} of its tests, {often}" if letters else f"0 in {len(alarms)}"
        cpu = f"{each['cpu_seconds']:.0f}"
        rows.append((each["name"], f"{each['claimed']:.2f}", own or "-", *numbers, moved, said, cpu))
        found += [
            (each["name"], test, f"{sum(test in tests for tests in alarms)} of {len(alarms)}", _first(alarms, test))
            for test in sorted(letters)
        ]
    note = (
        "Epsilon derived at least at 95 %, median over seeds, against the one that "
        f"noise multiplier 1 stands for at delta {DELTA:g} (unit: client, sample, example, user; adjacency: zero-out, "
        "with Poisson sampling add or remove); what the library's own accountants state; and how far one user moves a "
        "release. Clients and coordinates: 500 and 2,000 (Flower; adaptive 8,000), 1,000 and 4,000 (Opacus), 512 and "
        "2,048 (jax-privacy), 500 and 4,000 (pfl; banded 1,000)."
    )
    header = ("mechanism, version, option", "claimed", "its accountants", "L0", "L1", "L2", "moved", "alarms", "CPU s")
    about = (
        "Versions and options as stated, and nothing broader. NaN: whether a client can send one depends on what "
        "stands before the mechanism. Adaptive clipping of Flower: a round's noise is scaled by the norm for the next "
        "one. Banded, pfl: a column of its matrix has a length of up to 1.237."
    )
    return [
        Table("Other people's mechanisms", header, rows, note),
        Table("Alarms in other people's mechanisms", ("mechanism", "test", "alarms", "the first"), found, about),
    ]


def letters_of(alarms: Sequence[Mapping[str, str]]) -> set[str]:
    """The tests with an alarm in any audit."""
    return {test for tests in alarms for test in tests}


def _own(each: Mapping[str, Any]) -> list[tuple[str, float]]:
    """What a library's accountants state, by their shortest name."""
    short = {name: next((kind for kind in ("RDP", "PRV", "PLD") if kind in name), name) for name in each["stated"]}
    return [(short[name], value) for name, value in each["stated"].items()]


def _first(alarms: Sequence[Mapping[str, str]], test: str) -> str:
    """What the first audit with this alarm says."""
    return next(tests[test] for tests in alarms if test in tests)


PARTS = {
    "tight": Part(tight, tight_tables),
    "messages": Part(messages, messages_tables),
    "covered": Part(covered, covered_tables),
    "clean": Part(clean, clean_tables),
    "whole": Part(whole, whole_tables),
    "deficit": Part(deficit, deficit_tables),
    "cost": Part(cost, cost_tables),
    "foreign": Part(foreign, foreign_tables, seeds="0 to 2; 0 where batches are sampled"),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=20, needs_data=False)
