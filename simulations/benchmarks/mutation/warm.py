"""A warmed process that forks a child a mutant: a job a line on stdin, a result a line on stdout.

    {"mutant": FILE or null, "tests": [...], "cpu": SECONDS, "wall": SECONDS}   the tests in that order, until one fails
    {"mutant": null, "tests": [...], "all": true, ...}                          the same, and all that fail
    {"mutant": FILE or null, "audit": true, "cpu": SECONDS, "wall": SECONDS}    `palate audit mechanism`, as it comes
    {"mutant": null, "listed": NAME, "audit": false, "quick": false, ...}       what a listed mutant's checks find of it

numpy, scipy, pytest and the other big imports are there before the fork; Palate's modules are loaded in the child,
through the hook, so this imports none. Listed mutants change functions that are there: with the argument `listed`
Palate is loaded once, before all forks. A child that takes too long is ended with all that it started, and that is
said. It writes to a folder of its own, which is removed: nothing stays behind, whatever a mutant does.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutation.hook import sitecustomize

ROOT = Path(__file__).resolve().parents[3]
HOOK = Path(sitecustomize.__file__).parent
WARMED = (
    "scipy.stats",
    "scipy.optimize",
    "hypothesis.extra.numpy",
    "pydantic",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "sqlcipher3",
    "safetensors.numpy",
    "pandas",
    "pyarrow.parquet",
    "rich.console",
    "typer",
    "jinja2",
    "implicit.als",
    "dp_accounting",
    "absl.logging",
    "httpx",
)
MEMORY = 12 * 2**30
"""Bytes of addresses of a child: a mutant that asks for more has an error."""
ALARM = 4
"""Exit code of an audit that found something."""
OPTIONS = (
    *("-q", "--hypothesis-seed=0", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:anyio"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # hypothesis is there before pytest could rewrite its asserts
)
LISTED = ("mutants.asking", "mutants.listed")
"""Loaded before the fork where listed mutants are asked about; with them comes all of the production path."""
AT_FIRST = 2
"""Files of tests that are collected before the others."""
PR_SET_CHILD_SUBREAPER = 36


class Watch:
    """What the first failing test is, and how it fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {name: place for place, name in enumerate(tests)}
        self.found: dict[str, Any] = {"ran": 0, "failed": []}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only the chosen tests, in their order."""
        items[:] = sorted((each for each in items if each.nodeid in self.order), key=lambda i: self.order[i.nodeid])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that can't be loaded."""
        if report.failed and "by" not in self.found:
            self.found.update(by=report.nodeid, how="import", said=_last_line(report.longreprtext))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that fails, or can't begin."""
        self.found["ran"] += report.when == "call"
        if report.failed:
            self.found["failed"].append(report.nodeid)
        if report.failed and "by" not in self.found:
            self.found.update(by=report.nodeid, how=report.when, said=_last_line(report.longreprtext))


def _last_line(text: str) -> str:
    """What an error says."""
    said = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return (said or text.strip().splitlines() or [""])[0][:200]


def tests(names: Sequence[str], folder: Path, *, to_the_end: bool) -> dict[str, Any]:
    """Run tests until one fails, or all of them."""
    watch = Watch(names)
    found = watch.found
    files = list(dict.fromkeys(name.split("::")[0] for name in names))
    parts = [files] if to_the_end else [files[:AT_FIRST], files[AT_FIRST:]]  # to collect all costs more than most kills
    options = [*OPTIONS, f"--basetemp={folder / 'tests'}", *([] if to_the_end else ["-x"])]
    for part in filter(None, parts):
        code = int(pytest.main([*options, *part], plugins=[watch]))
        if "by" not in found and code not in (0, 5):
            found.update(by=f"pytest's exit code {code}", how="exit", said="")
        if "by" in found and not to_the_end:
            break
    if not to_the_end:
        del found["failed"]
    return found


def audit(folder: Path) -> dict[str, Any]:
    """Run `palate audit mechanism` until its verdict."""
    from palate_cli.__main__ import main

    said = folder / "audit.json"
    sys.argv = ["palate", "audit", "mechanism", "--json"]
    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY, 0o600), 1)
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    sys.stdout.flush()
    if code == 0:
        return {}
    if code != ALARM:
        return {"by": f"exit code {code}", "how": "exit", "said": ""}
    alarms = [name for name in _alarms(json.loads(said.read_text(encoding="utf-8")))]
    return {"by": alarms[0] if alarms else "", "how": "alarm", "alarms": alarms}


def _alarms(document: Any) -> list[str]:
    """The tests with an alarm, anywhere in a document."""
    if isinstance(document, dict):
        own = [str(document["test"])] if document.get("verdict") == "ALARM" and "test" in document else []
        return own + [name for each in document.values() for name in _alarms(each)]
    return [name for each in document for name in _alarms(each)] if isinstance(document, list) else []


def listed(job: dict[str, Any]) -> dict[str, Any]:
    """What is found of a listed mutant, by the checks that it names or by the audit."""
    asking, names = (importlib.import_module(name) for name in LISTED)
    ask = asking.asked_audit if job["audit"] else asking.asked_checks
    return asdict(ask(names.find(job["listed"]), quick=job["quick"]))


def child(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a job finds, in the forked process."""
    os.setpgid(0, 0)
    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, nothing), (1, log), (2, log)):
        os.dup2(target, number)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(job["cpu"]) + 1, int(job["cpu"]) + 3))
    os.environ.update(TMPDIR=str(folder), PYTHONPATH=str(HOOK), HYPOTHESIS_STORAGE_DIRECTORY=str(folder / "hypothesis"))
    tempfile.tempdir = None
    if job["mutant"] is not None:
        os.environ[sitecustomize.VARIABLE] = job["mutant"]
        sitecustomize.install()
    if "listed" in job:
        return listed(job)
    found = audit(folder) if job.get("audit") else tests(job["tests"], folder, to_the_end=job.get("all", False))
    loaded = [type(each.__spec__.loader) for each in list(sys.modules.values()) if getattr(each, "__spec__", None)]
    return {**found, "loaded": job["mutant"] is None or sitecustomize.MutatedLoader in loaded}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and clear up."""
    folder = Path(tempfile.mkdtemp(prefix="palate-mutant-"))
    begun = time.monotonic()
    number = os.fork()
    if number == 0:
        code = 0
        try:
            (folder / "found").write_text(json.dumps(child(job, folder)), encoding="utf-8")
        except BaseException:  # said in the log, which the parent reads
            traceback.print_exc()
            code = 70
        finally:
            os._exit(code)
    status, usage = _waited(number, begun + job["wall"])
    _end_orphans()
    found: dict[str, Any] = {"ran": 0}
    if (folder / "found").exists():
        found = json.loads((folder / "found").read_text(encoding="utf-8"))
    elif status is None:
        found.update(by="", how="wall", said=f"not done after {job['wall']} s")
    elif os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        slow = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        found.update(by="", how="cpu" if slow else "crash", said=f"{name} after {job['cpu']} CPU s")
    else:
        log = (folder / "log").read_text(encoding="utf-8", errors="replace")
        found.update(by="", how="crash", said=(log.strip().splitlines() or [""])[-1][:200])
    shutil.rmtree(folder, ignore_errors=True)
    return {**found, "seconds": round(usage, 2), "wall": round(time.monotonic() - begun, 2)}


def _waited(number: int, until: float) -> tuple[int | None, float]:
    """Exit status and CPU seconds of a child; no status where it had to be ended."""
    pause = 0.01
    while True:
        done, status, usage = os.wait4(number, os.WNOHANG)
        if done:
            return status, usage.ru_utime + usage.ru_stime
        if time.monotonic() > until:
            os.killpg(number, signal.SIGKILL)
            _, _, usage = os.wait4(number, 0)
            return None, usage.ru_utime + usage.ru_stime
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def _end_orphans() -> None:
    """End what a child left running: it is this process's since its parent is gone."""
    for _ in range(100):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for each in children:
            os.kill(int(each), signal.SIGKILL)
            os.waitpid(int(each), 0)


def main() -> None:
    """Serve until stdin ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir(ROOT)
    of_listed = sys.argv[1:] == ["listed"]
    for name in LISTED if of_listed else WARMED:
        importlib.import_module(name)
    loaded = sorted(name for name in sys.modules if name.startswith("palate"))
    if loaded and not of_listed:
        sys.exit(f"mutation: loaded before the fork: {', '.join(loaded)}")
    gc.freeze()  # a child's collections leave alone what was there before it
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        out.write(json.dumps(run(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
