"""The campaign: covers, draws the sample, and asks tests and audit about each mutant; it goes on where it stopped.

PYTHONPATH=simulations python simulations/benchmarks/mutation/campaign.py [cover|sample|test|confirm|survivors|source]

    cover       run the suite and the audit once, and keep which test executes which line of the rooms
    sample      draw the sample anew, and write sample.jsonl
    test        ask about each mutant that has no result yet: covering tests, then the audit if they find nothing
    confirm     run each test that found a mutant on the code as it is, and forget what one that fails there found
    survivors   print what neither found and nobody has judged
    source ID   print the mutated source of one mutant, as a diff
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from benchmarks.mutation import covering, making, rooms
from benchmarks.mutation.choosing import BUDGET, REACHED, Choice, Covered
from benchmarks.mutation.making import Mutant, draw

HERE = Path(__file__).parent
SAMPLE, RESULTS, JUDGED = HERE / "sample.jsonl", HERE / "results.jsonl", HERE / "judged.jsonl"
GROUPS = {
    "core": (
        *("tests/common", "tests/client", "tests/server", "--ignore=tests/server/service"),
        *(f"tests/docs/test_{name}.py" for name in ("docstrings", "vectors", "mechanism_vectors")),
    ),
    "audit": ("tests/simulations/audit", "tests/mechanism", "tests/reference", "tests/mutants"),
    "integration": ("tests/integration", "--ignore=tests/integration/online", "--ignore=tests/integration/serve"),
}
"""Parts of the suite, covered one after another: those that test the rooms in this process."""
BUDGETS = {"few": 4.0, "all": BUDGET}
"""CPU seconds of the tests asked about a mutant, at first and at last."""
AUDITED = 0.2
"""Share of the mutants that tests find which the audit is asked about, too: what it finds by itself."""
CLASSES = {
    "equivalent": "nobody can tell it from the original",
    "availability": "something is refused or ends that should go on: nobody learns more",
    "cost": "slower, or more bytes, with the same result",
    "quality": "a model, list or figure is worse: nobody learns more",
    "message": "what a person reads is different",
    "reserve": "a second line of defence is weaker while the first stands, and a test shows that it does",
    "tested": "nothing found it, and it mattered: it has a test since, which finds it",
}
"""What a survivor may be judged to be."""


def records(file: Path) -> dict[str, dict[str, Any]]:
    """A JSONL file by id; the last line of an id counts."""
    if not file.exists():
        return {}
    return {each["id"]: each for each in map(json.loads, file.read_text(encoding="utf-8").splitlines())}


def write(file: Path, found: dict[str, dict[str, Any]]) -> None:
    """One record a line, by id."""
    lines = "".join(json.dumps(found[name], ensure_ascii=False) + "\n" for name in sorted(found))
    part = file.with_suffix(".part")
    part.write_text(lines, encoding="utf-8")
    part.replace(file)


class Warm:
    """A warmed process; a job at a time.

    Args:
        what: `listed`, or nothing for mutants that are loaded in the place of a module.
    """

    def __init__(self, *what: str) -> None:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        variables |= {
            "PYTHONPATH": str(rooms.ROOT / "simulations"),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutation.warm", *what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
            cwd=rooms.ROOT,
        )

    def run(self, job: dict[str, Any], source: dict[str, str] | None = None) -> dict[str, Any]:
        """Give a job and what the hook loads, and wait."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101, PT018 - they are pipes
        with tempfile.TemporaryDirectory(prefix="palate-mutant-") as folder:
            file = Path(folder) / "mutant.json"
            if source is not None:
                file.write_text(json.dumps(source), encoding="utf-8")
            self.process.stdin.write(json.dumps({**job, "mutant": str(file) if source else None}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            sys.exit("mutation: the warmed process ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def loaded(mutant: Mutant) -> dict[str, str]:
    """What the hook is to load."""
    source = making.source_with(mutant.id)
    if source is None:
        sys.exit(f"mutation: {mutant.id} is of a function that has changed: campaign.py sample")
    return {"module": mutant.module, "source": source}


def tested(warm: Warm, mutant: Mutant, choice: Choice) -> dict[str, Any]:
    """What the covering tests find; a time-out counts where the same tests end in that time on the code as it is."""
    job = {"tests": choice.tests, "cpu": 8 + 2 * choice.seconds, "wall": 90 + 12 * choice.seconds}
    found = warm.run(job, loaded(mutant))
    if found.get("how") in ("cpu", "wall"):
        clean = warm.run(job)
        if "by" in clean:
            found = {**found, "how": "unsettled", "said": f"on the code as it is: {clean['how']} {clean['said']}"}
    outcome = "unsettled" if found.get("how") == "unsettled" else "killed" if "by" in found else "survived"
    return {"outcome": outcome, **found, "asked": len(choice.tests), "executing": choice.by}


def audited(warm: Warm, mutant: Mutant, covered: Covered) -> dict[str, Any]:
    """What the audit finds, as it comes; nothing where it doesn't come to the mutant's line."""
    if not covered.reaches(mutant):
        return {"outcome": "survived", "reached": False, "seconds": 0.0}
    found = warm.run({"audit": True, "cpu": 240, "wall": 1800}, loaded(mutant))
    return {"outcome": "killed" if "by" in found else "survived", **found}


def wants_audit(name: str, *, found: bool) -> bool:
    """Whether the audit is to be asked about a mutant: where tests found nothing, and a share of what they found."""
    return not found or draw(making.SEED, "audit " + name) < AUDITED


def step(result: dict[str, Any], groups: Sequence[str]) -> str | None:
    """What a mutant is asked next: a `few` tests, `all` that the budget allows, the `audit`; or nothing.

    Tests are asked again where they found nothing and other groups of the suite are covered now.
    """
    if "tests" not in result:
        return "few"
    killed = result["tests"]["outcome"] == "killed"
    if not killed and (result["tests"]["budget"] < BUDGETS["all"] or set(groups) - set(result["tests"]["groups"])):
        return "all"
    return "audit" if "audit" not in result and wants_audit(result["id"], found=killed) else None


def ask(mutant: Mutant, warm: Warm, covered: Covered, earlier: dict[str, Any]) -> dict[str, Any]:
    """A mutant's result with its next step."""
    result = {**earlier, "id": mutant.id, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    following = step(earlier, covered.groups)
    if following not in BUDGETS:
        return {**result, "audit": audited(warm, mutant, covered)}
    budget = BUDGETS[following]
    found = tested(warm, mutant, covered.choose(mutant, budget))
    return {**result, "tests": {**found, "budget": budget, "groups": covered.groups}}


def pending(sample: Sequence[Mutant], results: dict[str, dict[str, Any]], groups: Sequence[str]) -> list[Mutant]:
    """What is to be done, in this order; in each step by chance: what is in at any time is a random part.

    A few tests; all; the audit where they found nothing, what is judged last; the audit of a share of what they found;
    and at the end whatever is judged to be the same as the original, which nothing can find.
    """
    judged, open_ = records(JUDGED), list[tuple[int, bool, float, Mutant]]()
    for mutant in sample:
        result, judgement = results.get(mutant.id, {}), judged.get(mutant.id, {}).get("class", "")
        following = step(result, groups)
        if following is None:
            continue
        place = {"few": 0, "all": 1, "audit": 2}[following]
        if following == "audit" and result["tests"]["outcome"] == "killed":
            place = 3
        if following != "few" and judgement == "equivalent":
            place = 4
        open_.append((place, bool(judgement), draw(making.SEED, "order " + mutant.id), mutant))
    return [mutant for *_, mutant in sorted(open_)]


def test(workers: int, most: int, folder: Path, only: str) -> None:
    """Ask about each mutant that has no result; write each result at once."""
    covered = Covered(folder)
    results, lock = records(RESULTS), threading.Lock()
    for each in making.read(SAMPLE):
        if not making.is_current(each.id):
            sys.exit(f"mutation: {each.id} is of a function that has changed: campaign.py sample")
    sample = [each for each in making.read(SAMPLE) if re.search(only, each.id)]
    busy = set[str]()
    left = [most]

    def following() -> Mutant | None:
        """The next mutant that no other worker is busy with."""
        with lock:
            open_ = (each for each in pending(sample, results, covered.groups) if each.id not in busy)
            mutant = next(open_, None) if left[0] > 0 else None
            if mutant is not None:
                busy.add(mutant.id)
                left[0] -= 1
            return mutant

    def serve() -> None:
        warm = Warm()
        while (mutant := following()) is not None:
            result = ask(mutant, warm, covered, results.get(mutant.id, {}))
            with lock:
                results[mutant.id] = result
                busy.discard(mutant.id)
                write(RESULTS, results)
                sys.stdout.write(f"{len(results)} {line_of(result)}\n")
                sys.stdout.flush()
        warm.close()

    threads = [threading.Thread(target=serve) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def line_of(result: dict[str, Any]) -> str:
    """A result in a line."""
    parts = [
        f"{name} {result[name]['outcome']} {result[name]['seconds']} s" for name in ("tests", "audit") if name in result
    ]
    return f"{result['id']}: {', '.join(parts)}"


def cover(folder: Path, *, again: bool) -> None:
    """Run the suite once, group by group, and the audit; a group that is there stays."""
    for name, paths in GROUPS.items():
        if again or not (folder / name / "tests.json").exists():
            variables = {
                **os.environ,
                covering.VARIABLE: str(folder / name),
                "PYTHONPATH": str(rooms.ROOT / "simulations"),
            }
            command = ["-m", "pytest", "-q", "-p", "benchmarks.mutation.covering", "-p", "no:cacheprovider", *paths]
            subprocess.run([sys.executable, *command], cwd=rooms.ROOT, env=variables, check=False)
    if again or not (folder / REACHED).exists():
        covering.cover_audit(folder / REACHED)


def confirm() -> None:
    """Each test that found a mutant, on the code as it is; what a test found that fails there is forgotten."""
    results = records(RESULTS)
    killers = sorted({each["tests"]["by"] for each in results.values() if "::" in each["tests"].get("by", "")})
    warm = Warm()
    found = warm.run({"tests": killers, "all": True, "cpu": 3600, "wall": 36000})
    warm.close()
    wrong = set(found["failed"])
    kept = {name: each for name, each in results.items() if each["tests"].get("by") not in wrong}
    write(RESULTS, kept)
    said = f"{len(killers)} tests found a mutant; {found['ran']} ran on the code as it is, {len(wrong)} failed there; "
    sys.stdout.write(f"{said}{len(results) - len(kept)} results forgotten; {found['seconds']} CPU s\n")
    sys.stdout.writelines(f"  {name}\n" for name in sorted(wrong))


def survived(result: dict[str, Any]) -> bool:
    """Whether neither tests nor audit found it."""
    return all(result[name]["outcome"] != "killed" for name in ("tests", "audit") if name in result)


def survivors(*, unjudged: bool = True) -> Iterator[tuple[Mutant, dict[str, Any]]]:
    """What neither tests nor audit found."""
    results, judged = records(RESULTS), records(JUDGED)
    for mutant in making.read(SAMPLE):
        result = results.get(mutant.id)
        if result is not None and survived(result) and not (unjudged and mutant.id in judged):
            yield mutant, result


def stale() -> list[str]:
    """Judgements of mutants that are not in the sample: their function has changed since, or they were never in it."""
    return sorted(records(JUDGED).keys() - {each.id for each in making.read(SAMPLE)})


def print_survivors() -> None:
    """The list for whoever judges."""
    for mutant, result in survivors():
        sys.stdout.write(f"{mutant.id}\n  line {mutant.line}: {mutant.before}\n  -> {mutant.after}\n")
        sys.stdout.write(f"  {result['tests']['asked']} tests of its {result['tests']['executing']}\n")
    for name in stale():
        sys.stdout.write(f"stale judgement: {name}: the function has changed\n")


def print_source(name: str) -> None:
    """What a mutant changes."""
    module = name.split(":")[0]
    mutated = making.source_with(name)
    if mutated is None:
        sys.exit(f"mutation: {name} is of a function that has changed, or of none")
    file = str(rooms.file_of(module))
    lines = difflib.unified_diff(
        making.source_of(module).splitlines(), mutated.splitlines(), file, file, lineterm="", n=8
    )
    sys.stdout.writelines(f"{line}\n" for line in lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="test")
    parser.add_argument("id", nargs="?", default="", help="of `source`")
    parser.add_argument("--workers", type=int, default=1, help="of `test`: processes beside each other")
    parser.add_argument("--most", type=int, default=10**9, help="of `test`: how many steps now")
    parser.add_argument("--only", default="", help="of `test`: those whose id this pattern finds")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept; default %(default)s")
    parser.add_argument("--again", action="store_true", help="of `cover`: also what is there")
    default = user_cache_path("palate") / "mutation"
    parser.add_argument("--cache", type=Path, default=default, help="which tests execute what; default %(default)s")
    options = parser.parse_args()
    globals()["RESULTS"] = options.results
    does: dict[str, Callable[[], object]] = {
        "cover": lambda: cover(options.cache, again=options.again),
        "sample": lambda: making.write(making.sample(), SAMPLE),
        "test": lambda: test(options.workers, options.most, options.cache, options.only),
        "confirm": confirm,
        "survivors": print_survivors,
        "source": lambda: print_source(options.id),
    }
    if options.what not in does:
        parser.error(f"`what` must be among {', '.join(does)}, got {options.what!r}")
    does[options.what]()


if __name__ == "__main__":
    main()
