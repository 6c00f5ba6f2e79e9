"""What tests and audit find of mutants, counted: the records of what was asked, and the judgements, as tables.

PYTHONPATH=simulations python simulations/benchmarks/mutation/run.py [--parts listed,mutants]
"""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.mutation import campaign, listed, making, rooms
from benchmarks.sheet import Part, Table, main
from mutants.listed import MUTANTS

HARMLESS = tuple(name for name in campaign.CLASSES if name != "tested")


def mutants(_: Path, __: int) -> Any:
    """Counts of what is in `results.jsonl`, room by room and family by family."""
    results, judged = campaign.records(campaign.RESULTS), campaign.records(campaign.JUDGED)
    sample = making.read(campaign.SAMPLE)
    rows: dict[str, dict[str, Counter[str]]] = {"room": defaultdict(Counter), "family": defaultdict(Counter)}
    by_audit, alarms, seconds = Counter[str](), Counter[str](), Counter[str]()
    for mutant in sample:
        result = results.get(mutant.id, {})
        found = outcome(result, judged.get(mutant.id, {}))
        for kind, name in (("room", mutant.room), ("family", mutant.family)):
            rows[kind][name].update(["mutants", *found])
        for part in result.keys() & {"tests", "audit"}:
            seconds[part] += result[part]["seconds"]
        if "audit" in result:
            by_audit[f"{result['tests']['outcome']}, asked"] += 1
            by_audit[f"{result['tests']['outcome']}, found"] += result["audit"]["outcome"] == "killed"
            alarms.update({each.split()[0].rstrip(":") for each in result["audit"].get("alarms", ())})
    sites = making.population()
    return {
        "sites": {room: sum(count for (r, _), count in sites.items() if r == room) for room in rooms.ROOMS},
        "rooms": rows["room"],
        "families": rows["family"],
        "audit": by_audit,
        "alarms": alarms,
        "how": Counter(each["tests"]["how"] for each in results.values() if "how" in each["tests"]),
        "cpu_seconds": seconds,
        "stale": len(campaign.stale()),
        "commit": commit(),
        "seed": making.SEED,
    }


def listed_mutants(_: Path, __: int) -> Any:
    """Counts of what is in `listed.jsonl`, by the checks that the mutants name."""
    asked, seconds = campaign.records(listed.OUT), Counter[str]()
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in MUTANTS:
        row = rows["tests of their own" if mutant.test.endswith(".py") else mutant.test]
        row["mutants"] += 1
        for part, found in asked.get(mutant.name, {}).items():
            if part in listed.PARTS:
                seconds[part] += found["seconds"]
                row[f"{part}, asked"] += 1
                row[f"{part}, found"] += bool(found["alarms"])
                row[f"{part}, quick"] += found["quick"]
    return {"rows": rows, "cpu_seconds": seconds, "commit": commit(), "seed": making.SEED}


def commit() -> str:
    """Of the sources that were asked about."""
    command = ("git", "log", "-1", "--format=%h", "--", "common", "client", "server", "simulations/palate_audit")
    return subprocess.run(command, cwd=rooms.ROOT, capture_output=True, text=True, check=True).stdout.strip()


def tables_of_listed(figures: Any) -> list[Table]:
    """One row a group of checks."""
    columns = ("mutants", "checks, asked", "checks, found", "audit, asked", "audit, found")
    rows = [_cells(name, each, columns) for name, each in figures["rows"].items()]
    whole = sum((Counter(each) for each in figures["rows"].values()), Counter[str]())
    checks, audit = (figures["cpu_seconds"].get(part, 0.0) for part in listed.PARTS)
    note = (
        f"Bugs that people have listed, at {figures['commit']}: each meets the checks that it names, one after another "
        "until one finds it, and the audit is asked about what they miss and a fifth of the others, drawn by seed "
        f"{figures['seed']}; {whole['audit, quick']} times it was its quick form. CPU seconds: checks {checks:,.0f}, "
        f"audit {audit:,.0f}."
    )
    header = ("checks", "mutants", "asked", "found", "the audit was asked", "the audit found")
    return [Table("Listed mutants", header, [*rows, _cells("**all**", whole, columns)], note)]


def _cells(name: str, counts: Mapping[str, int], columns: Sequence[str]) -> list[str]:
    return [name, *(str(counts.get(each, 0) or "") for each in columns)]


def outcome(result: Mapping[str, Any], judgement: Mapping[str, Any]) -> list[str]:
    """Columns that a mutant counts in."""
    if "tests" not in result:
        return ["not asked"]
    if judgement.get("class") == "tested":
        return ["tested"]
    if result["tests"]["outcome"] == "killed":
        return ["tests"]
    if result.get("audit", {}).get("outcome") == "killed":
        return ["audit"]
    found = ["survived", judgement.get("class", "unjudged")]
    if result["tests"].get("budget", 0.0) < campaign.BUDGETS["all"]:
        found.append("few")
    return found if "audit" in result else [*found, "audit not asked"]


def tables(figures: Any) -> list[Table]:
    """One row a room, and one a family."""
    asked = {name: each["mutants"] - each.get("not asked", 0) for name, each in figures["rooms"].items()}
    found = {name: sum(each.get(kind, 0) for kind in ("tests", "audit")) for name, each in figures["rooms"].items()}
    whole = sum(asked.values())
    weights = {name: figures["sites"][name] for name, number in asked.items() if number}
    estimate = sum(weights[name] * found[name] / asked[name] for name in weights) / max(sum(weights.values()), 1)
    note = (
        f"{sum(figures['sites'].values()):,} places where an operator fits; {_total(figures, 'mutants')} drawn by seed "
        f"{figures['seed']}, {whole} asked so far at {figures['commit']}, in an order of chance within a room. "
        f"Found: {sum(found.values())} of {whole}, {_interval(sum(found.values()), whole)}; weighed by the places of "
        f"each of these rooms, {100 * estimate:.0f} %. "
        "Of the others, those that mattered have got a test (`tested`), and each is judged in one line in "
        "[judged.jsonl](../../simulations/benchmarks/mutation/judged.jsonl): "
        + "; ".join(f"{name}: {about}" for name, about in campaign.CLASSES.items())
        + f". {_total(figures, 'few')} of them have met the first, few tests only, and about "
        f"{_total(figures, 'audit not asked')} the audit wasn't asked yet."
    )
    columns = ("tests", "audit", *campaign.CLASSES, "unjudged")
    header = ("mutants", "asked", "found by tests", "by the audit", *campaign.CLASSES, "unjudged")
    rows = [_row(name, each, columns) for name, each in figures["rooms"].items()]
    rows.append(_row("**all**", sum((Counter(each) for each in figures["rooms"].values()), Counter()), columns))
    families = [_row(name, each, columns) for name, each in figures["families"].items()]
    return [
        Table("Machine-made mutants, room by room", ("room", *header), rows, note),
        Table("The same, by what the operator changes", ("operators", *header), families),
        _audit(figures),
    ]


def _row(name: str, counts: Mapping[str, int], columns: Sequence[str]) -> list[str]:
    """Cells of a row; nothing for 0."""
    number = counts["mutants"] - counts.get("not asked", 0)
    return [name, str(counts["mutants"]), str(number), *(str(counts.get(each, 0) or "") for each in columns)]


def _total(figures: Any, column: str) -> int:
    return sum(each.get(column, 0) for each in figures["rooms"].values())


def _interval(found: int, asked: int) -> str:
    """A share and its 95 % interval."""
    if not asked:
        return "none asked"
    low, high = stats.binomtest(found, asked).proportion_ci(method="exact")
    return f"{100 * found / asked:.0f} % (95 %: {100 * low:.0f} to {100 * high:.0f})"


def _audit(figures: Any) -> Table:
    """What the audit finds by itself."""
    said = {"killed": "found by tests", "survived": "not found by tests", "unsettled": "unsettled by tests"}
    rows = []
    for name, words in said.items():
        asked, found = (figures["audit"].get(f"{name}, {what}", 0) for what in ("asked", "found"))
        if asked:
            rows.append((words, str(asked), str(found), _interval(found, asked)))
    letters = ", ".join(f"{name} {count}" for name, count in sorted(figures["alarms"].items()))
    seconds = {name: f"{value:,.0f}" for name, value in figures["cpu_seconds"].items()}
    note = (
        "`palate audit mechanism` on a random fifth of the mutants that tests find, and on all that they don't. Most "
        "are outside its remit. "
        + (f"Alarms by test: {letters}. " if letters else "")
        + "CPU seconds: "
        + ", ".join(f"{name} {value}" for name, value in sorted(seconds.items()))
        + "."
    )
    return Table("What the audit alone finds of them", ("mutants", "asked", "found", "share"), rows, note)


PARTS = {
    "listed": Part(listed_mutants, tables_of_listed, seeds=str(making.SEED)),
    "mutants": Part(mutants, tables, seeds=str(making.SEED)),
}

if __name__ == "__main__":
    main(__doc__, PARTS, Path(__file__).parent, seeds=1, needs_data=False)
