"""Quality against eps on real logs: the bars of the project, the floor under private training, what users buy.

PALATE_BENCH_DATA=PATH PYTHONPATH=simulations python simulations/benchmarks/quality/run.py
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import (
    DELTA,
    DESKDROP,
    JOURNEY,
    METRIC,
    ML_1M,
    ML_SMALL,
    RETAIL,
    SECOND,
    TWEETINGS,
    epsilon_label,
    prepared_of,
    quality,
    real_run,
    rehearsed,
    some_users,
    whole_run,
)
from benchmarks.sheet import Part, Table, cell, main, mean_error
from palate_common.algorithms import State
from palate_sim.baselines.ease import Ease

EPSILONS = (0.5, 1.0, 2.0, 5.0, 10.0, None)
BARS = {1.0: 0.32, 5.0: 0.355, 10.0: 0.37, None: 0.405}
PLAIN_BARS = {1.0: 0.265, 5.0: 0.34, 10.0: 0.355, None: 0.385}
OTHERS = ((RETAIL, 2.2, "popularity"), (TWEETINGS, 1.05, "noised_popularity"), (DESKDROP, 1.0, "noised_popularity"))
OTHERS += ((ML_SMALL, None, "noised_popularity"), (JOURNEY, None, "noised_popularity"))
SHOWN_BESIDE = ("ratio of means (single seeds)", "bar", "Palate, no privacy", "EASE", "iALS")
HARM_SIZES = ((ML_1M, (300, 600, 1000, 3000)), (RETAIL, (300, 600, 1000, 3000)), (TWEETINGS, (300, 600, 1000, 3000)))
HARM_SIZES += ((DESKDROP, (300, 600)), (ML_SMALL, (300,)), (JOURNEY, (300, 600, 1000)))
HARM_EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
CONTROL_CASES = ((ML_1M, (1.0, 5.0, 10.0)), (TWEETINGS, (1.0, 5.0)), (ML_SMALL, (5.0,)), (JOURNEY, (1.0, 5.0)))
UNGUARDED = {"content_weight": 1.0, "vote_share": 0.0}
MODES = ((ML_1M, 5.0), (ML_1M, 1.0))
LOCAL_SETS, LOCAL_EPSILON = (ML_1M, RETAIL, TWEETINGS), 8.0
LINKED_SETS = (ML_1M, RETAIL, ML_SMALL, DESKDROP, TWEETINGS, JOURNEY)
LINKED_CASES = ((None, 1), (5.0, 10), (5.0, 100), (1.0, 100))
PROTOCOL = f"split strong, delta {DELTA:g}, unit user, adjacency zero-out"


def main_bars(data: Path, seeds: int) -> Any:
    """ML-1M at every eps, real runs only, with and without item features, with the baselines of the same splits."""
    figures = []
    for seed in range(seeds):
        for epsilon in EPSILONS:
            beside = ("popularity", "ease", "ials") if epsilon is None else ("noised_popularity", "content_only")
            result = real_run(ML_1M, data, epsilon=epsilon, seed=seed, baselines=beside)
            plain = real_run(ML_1M, data, epsilon=epsilon, seed=seed, features="none")
            named = {"palate": result["metrics"], "without features": plain["metrics"], **result["baselines"]}
            for name, metrics in named.items():
                found = {metric: metrics[metric]["mean"] for metric in (METRIC, SECOND)}
                figures.append({"seed": seed, "epsilon": epsilon, "model": name, "noise": result["noise"], **found})
    return figures


def main_tables(figures: Any) -> list[Table]:
    """One row an eps; beside it, the baselines without privacy."""
    values, rows = defaultdict(list), []
    for each in figures:
        for metric in (METRIC, SECOND):
            values[each["model"], each["epsilon"], metric].append(each[metric])
    for epsilon in EPSILONS:
        cells = [
            f"{cell(values[name, epsilon, METRIC])}{verdict(values[name, epsilon, METRIC], bars.get(epsilon))}"
            for name, bars in (("palate", BARS), ("without features", PLAIN_BARS))
        ]
        floors = [values[name, epsilon, METRIC] for name in ("content_only", "noised_popularity")]
        cells += [cell(values["palate", epsilon, SECOND]), *(cell(floor) if floor else "" for floor in floors)]
        rows.append((epsilon_label(epsilon), *cells))
    header = (
        "eps",
        f"Palate, {METRIC}",
        "without item features",
        f"Palate, {SECOND}",
        "content only",
        "noised popularity",
    )
    table = Table(
        f"MovieLens 1M: {METRIC} against eps",
        header,
        rows,
        f"Real runs. Features: genres and decades. Content only, noised popularity: all of the budget, {METRIC}.",
    )
    names = {"popularity": "popularity", "ease": "EASE", "ials": "iALS (implicit)"}
    beside_table = Table(
        "MovieLens 1M: without privacy, same splits",
        ("model", METRIC, SECOND),
        [(label, *(cell(values[name, None, metric]) for metric in (METRIC, SECOND))) for name, label in names.items()],
        "EASE and iALS with their defaults, as `palate simulate` prints them.",
    )
    return [table, beside_table]


def verdict(values: list[float], bar: float | None) -> str:
    """How a mean compares with its bar."""
    if bar is None:
        return ""
    return f" (bar {bar:g}: {'met' if mean_error(values)[0] >= bar else 'MISSED'})"


def other_sets(data: Path, seeds: int) -> Any:
    """The other logs at eps 5, real runs, paired with popularity on the same splits."""
    figures = []
    for set_, _, _ in OTHERS:
        beside = ("popularity", "noised_popularity", "ials") + (() if set_ is JOURNEY else ("ease",))
        for seed in range(seeds):
            result = real_run(set_, data, epsilon=5.0, seed=seed, baselines=beside)
            off = real_run(set_, data, epsilon=None, seed=seed)
            named = {"palate": result["metrics"], **result["baselines"], "off": off["metrics"]}
            found = {name: metrics[METRIC]["mean"] for name, metrics in named.items()}
            sizes = {"users": result["users"], "items": result["items"]}
            figures.append({"set": set_.label, "seed": seed, "epsilon": 5.0, **sizes, **found})
    return figures


def other_tables(figures: Any) -> list[Table]:
    """One row a set."""
    rows, models = [], ("popularity", "noised_popularity", "palate", "off", "ease", "ials")
    for set_, bar, against in OTHERS:
        own = [each for each in figures if each["set"] == set_.label]
        if not own:
            continue
        values = {name: [each[name] for each in own] for name in models if name in own[0]}
        means = {name: mean_error(each)[0] for name, each in values.items()}
        ratio, floor = means["palate"] / means[against], against.replace("_", " ")
        verdict = "" if bar is None else f"{bar:g} x {floor}: {'met' if ratio >= bar else 'MISSED'}"
        each = [own / base for own, base in zip(values["palate"], values[against], strict=True)]
        rows.append(
            (
                f"{set_.label}, {own[-1]['users']:,} x {own[-1]['items']:,}",
                *(cell(values[name]) for name in models[:3]),
                f"{ratio:.2f} x {floor} ({min(each):.2f} to {max(each):.2f})",
                verdict,
                *(cell(values[name]) if name in values else "not run" for name in models[3:]),
            )
        )
    table = Table(
        f"Other logs at eps 5: {METRIC}",
        ("log, training users x items", "popularity", "noised popularity", "Palate", *SHOWN_BESIDE),
        rows,
        "Real runs, paired seeds. 5-core, except MovieLens small. EASE and iALS without privacy; EASE inverts at "
        "most 20,000 items.",
    )
    return [table]


def no_harm(data: Path, seeds: int) -> Any:
    """Few users: the private model over noised popularity at the same budget. Rehearsals."""
    figures = []
    for set_, sizes in HARM_SIZES:
        sets = [prepared_of(set_, data, seed) for seed in range(seeds)]
        for size in sizes:
            if size > min(prepared.split.train.n_users for prepared in sets):
                continue
            for epsilon in HARM_EPSILONS:
                found: dict[str, list[float]] = {"als": [], "popularity": []}
                for seed, prepared in enumerate(sets):
                    split, inputs = prepared.split, prepared.inputs
                    train = some_users(split.train, size, seed)
                    for algorithm, into in found.items():
                        model = rehearsed(train, epsilon=epsilon, seed=seed, algorithm=algorithm, inputs=inputs)
                        into.append(quality(model, split.test, split, seed))
                figures.append({"set": set_.label, "users": size, "epsilon": epsilon, **found})
    return figures


def harm_tables(figures: Any) -> list[Table]:
    """One row a set and size."""
    cells: dict[tuple[str, int], list[float]] = defaultdict(list)
    for each in figures:
        cells[each["set"], each["users"]].append(float(np.mean(each["als"]) / np.mean(each["popularity"])))
    ratios = [ratio for row in cells.values() for ratio in row]
    rows = [(set_, f"{users:,}", *(f"{ratio:.3f}" for ratio in row)) for (set_, users), row in cells.items()]
    note = (
        f"Mean {np.mean(ratios):.3f}, minimum {min(ratios):.3f} of {len(ratios)} settings. Rehearsals; a ratio of "
        "means. Below mu x users = 350 no collaborative round is run."
    )
    header = ("log", "training users", *(f"eps {epsilon:g}" for epsilon in HARM_EPSILONS))
    return [Table("Do no harm: Palate over noised popularity at the same eps", header, rows, note)]


def useless_features(data: Path, seeds: int) -> Any:
    """The control of the vote: features of the wrong items, beside the right ones and none. Rehearsals."""
    figures = []
    for set_, epsilons in CONTROL_CASES:
        sets = [prepared_of(set_, data, seed) for seed in range(seeds)]
        for epsilon in epsilons:
            found: dict[str, list[float]] = defaultdict(list)
            for seed, prepared in enumerate(sets):
                split, own = prepared.split, prepared.inputs
                order = np.random.default_rng([seed, 9]).permutation(split.train.n_items)
                wrong: State = {name: array[order] for name, array in own.items()}
                cases: tuple[tuple[str, State, dict[str, float]], ...] = (
                    ("own", own, {}),
                    ("none", {}, {}),
                    ("shuffled", wrong, {}),
                    ("shuffled, no vote", wrong, UNGUARDED),
                )
                for name, inputs, settings in cases:
                    model = rehearsed(split.train, epsilon=epsilon, seed=seed, inputs=inputs, settings=settings)
                    found[name].append(quality(model, split.test, split, seed))
            figures.append({"set": set_.label, "epsilon": epsilon, **found})
    return figures


def useless_tables(figures: Any) -> list[Table]:
    """One row a set and eps."""
    rows = []
    for each in figures:
        found = [each[name] for name in ("own", "none", "shuffled", "shuffled, no vote")]
        ratio = float(np.mean(each["shuffled"]) / np.mean(each["none"]))
        rows.append((each["set"], f"{each['epsilon']:g}", *map(cell, found), f"{ratio:.3f}"))
    table = Table(
        f"Useless features: {METRIC} with features of the wrong items",
        ("log", "eps", "own features", "no features", "shuffled", "shuffled, no vote", "shuffled over none"),
        rows,
        "Rehearsals, paired seeds. Shuffled: each item has another item's features. No vote: `content_weight` 1 and "
        "`vote_share` 0.",
    )
    return [table]


def modes(data: Path, seeds: int) -> Any:
    """Who adds the noise: the server, or the devices, with and without room for corrupt and lost ones. Real runs."""
    bear: dict[str, Any] = {"privacy.dp": "distributed", "privacy.corrupt": 0.1, "privacy.dropout": 0.1}
    cases: dict[str, dict[str, Any]] = {
        "central": {"privacy.dp": "central"},
        "distributed, one may be corrupt, none lost": {"privacy.dp": "distributed"},
        "distributed, 10 % may be corrupt and 10 % lost, none is": bear,
        # A little fewer than 10 %, because who is lost is drawn device by device.
        "distributed, 10 % may be corrupt and 10 % lost, 9 % are": {**bear, "engine.absent": 0.09},
    }
    figures = []
    for set_, epsilon in MODES:
        values = {
            name: [real_run(set_, data, epsilon=epsilon, seed=seed, more=keys) for seed in range(seeds)]
            for name, keys in cases.items()
        }
        found = {name: [run["metrics"][METRIC]["mean"] for run in runs] for name, runs in values.items()}
        figures.append({"set": set_.label, "epsilon": epsilon, METRIC: found})
    return figures


def modes_tables(figures: Any) -> list[Table]:
    """One row a mode."""
    rows = []
    for each in figures:
        found = each[METRIC]
        for name, values in found.items():
            ratio = float(np.mean(values) / np.mean(found["central"]))
            rows.append((f"{each['set']}, eps {each['epsilon']:g}", name, cell(values), f"{ratio:.3f}"))
    table = Table(
        f"Who adds the noise: {METRIC}",
        ("log", "mode", METRIC, "over central"),
        rows,
        "Real runs, secure noise, masks off (masks change no number). Bar: within 1 % of central "
        "where one device may be corrupt and none is lost.",
    )
    return [table]


def local(data: Path, seeds: int) -> Any:
    """Devices that trust nobody, at one eps: the user as the unit, and single events. Real runs, paired seeds."""
    events = {"privacy.dp": "local", "privacy.unit": "event", "algorithm.name": "event-mf"}
    cases: dict[str, dict[str, Any]] = {
        "local, unit event": events,
        "local, unit event, inclusion 0.5": {**events, "algorithm.settings.inclusion": 0.5},
        "local, unit user": {"privacy.dp": "local"},
        "distributed, unit user": {"privacy.dp": "distributed"},
    }
    figures = []
    for set_ in LOCAL_SETS:
        found, second, claimed = defaultdict(list), defaultdict(list), defaultdict(list)
        sizes, rounds = (0, 0), dict[str, int]()
        for seed in range(seeds):
            for name, keys in cases.items():
                beside = ("popularity", "noised_popularity") if name == "local, unit user" else ()
                more = {**keys, "evaluation.projection": []}
                made = whole_run(set_, data, epsilon=LOCAL_EPSILON, seed=seed, baselines=beside, more=more)
                run, other = made.summary, (made.card["second_accountant"] or {}).get("epsilon")
                sizes, rounds[name] = (run["users"], run["items"]), run["rounds"]
                found[name].append(run["metrics"][METRIC]["mean"])
                second[name].append(run["metrics"][SECOND]["mean"])
                claimed[name].append((run["epsilon"], other))
                for control in beside:
                    label = "popularity, no privacy" if control == "popularity" else "noised popularity, local, user"
                    found[label].append(run["baselines"][control][METRIC]["mean"])
                    second[label].append(run["baselines"][control][SECOND]["mean"])
        sizes_of = {"users": sizes[0], "items": sizes[1], "rounds": rounds, "accounts": dict(claimed)}
        quality_of = {METRIC: dict(found), SECOND: dict(second)}
        figures.append({"set": set_.label, "epsilon": LOCAL_EPSILON, **sizes_of, **quality_of})
    return figures


def local_tables(figures: Any) -> list[Table]:
    """One row a set and mode."""
    rows = []
    for each in figures:
        found, where = each[METRIC], f"{each['set']}, {each['users']:,} x {each['items']:,}"
        for name, values in found.items():
            ratio = float(np.mean(values) / np.mean(found["popularity, no privacy"]))
            first, other = each["accounts"].get(name, [("", "")])[0]
            two = f"{first:.3f}, {other:.3f}" if isinstance(other, float) else ""
            rounds = str(each["rounds"].get(name, ""))
            rows.append((where, name, rounds, two, cell(values), cell(each[SECOND][name]), f"{ratio:.2f}"))
    table = Table(
        f"Devices that trust nobody: {METRIC} at eps {LOCAL_EPSILON:g}",
        ("log", "mode", "rounds", "eps: claimed, PLD", METRIC, SECOND, "over popularity"),
        rows,
        "Real runs, secure noise, paired seeds; unit as each row says, zero-out, delta "
        f"{DELTA:g}. An epsilon for single events promises much less than the same for users. PLD: dp-accounting's.",
    )
    return [table]


def links(data: Path, seeds: int) -> Any:
    """With and without pair counts, where the signal is large, beside EASE on the same splits. Rehearsals."""
    figures = []
    for set_ in LINKED_SETS:
        sets = [prepared_of(set_, data, seed) for seed in range(seeds)]
        shown = {"set": set_.label, "users": sets[0].split.train.n_users}
        if set_ is not JOURNEY:  # EASE inverts at most 20,000 items
            ease = [
                quality(Ease.fit(each.split.train), each.split.test, each.split, seed) for seed, each in enumerate(sets)
            ]
            figures.append({**shown, "model": "ease", "epsilon": None, "factor": 1, "quality": ease})
        for epsilon, factor in LINKED_CASES:
            for name, settings in (("without", {"pair_items": 0}), ("with", {})):
                found = []
                for seed, prepared in enumerate(sets):
                    split = prepared.split
                    asked = {"epsilon": epsilon, "seed": seed, "population": factor, "settings": settings}
                    found.append(quality(rehearsed(split.train, **asked), split.test, split, seed))
                figures.append({**shown, "model": name, "epsilon": epsilon, "factor": factor, "quality": found})
    return figures


def links_tables(figures: Any) -> list[Table]:
    """One row a set and case."""
    rows = []
    for set_ in dict.fromkeys(each["set"] for each in figures):
        own = {
            (each["model"], each["epsilon"], each["factor"]): each["quality"] for each in figures if each["set"] == set_
        }
        ease, users = own.get(("ease", None, 1)), next(each["users"] for each in figures if each["set"] == set_)
        for epsilon, factor in LINKED_CASES:
            without, linked = own["without", epsilon, factor], own["with", epsilon, factor]
            gain = cell([after - before for before, after in zip(without, linked, strict=True)])
            over = f"{np.mean(linked) / np.mean(ease):.3f}" if ease else "not run"
            case = f"{epsilon_label(epsilon)}, {factor} x" if factor > 1 else epsilon_label(epsilon)
            rows.append((f"{set_}, {users:,} users", case, cell(without), cell(linked), gain, over))
        if ease:
            rows.append((f"{set_}, {users:,} users", "EASE", "", cell(ease), "", ""))
    table = Table(
        f"Links from pair counts: {METRIC} with large signal",
        ("log", "eps, users", "without pairs", "with", "paired difference", "over EASE"),
        rows,
        "Rehearsals without item features. 10 x and 100 x multiply the sums; the noise stays. EASE without privacy.",
    )
    return [table]


PARTS = {
    "main": Part(main_bars, main_tables),
    "sets": Part(other_sets, other_tables),
    "harm": Part(no_harm, harm_tables),
    "useless": Part(useless_features, useless_tables),
    "links": Part(links, links_tables),
    "modes": Part(modes, modes_tables),
    "local": Part(local, local_tables),
}


if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=5, protocol=PROTOCOL)
