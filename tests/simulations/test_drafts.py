"""A large log is prepared in a folder of the run's own, and whatever goes wrong leaves nothing of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_common.algorithms.als.algorithm import FEATURES
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig, load_config
from palate_sim.preparation.preparation import prepare
from palate_sim.run import experiment

ROWS = 3000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 150 users with times and kinds."""
    rng = np.random.default_rng(1)
    columns = {
        "user": rng.integers(0, 150, ROWS),
        "item": rng.integers(0, 60, ROWS),
        "event": rng.choice(["view", "like"], ROWS),
        "ts": rng.integers(10**9, 10**9 + 10**6, ROWS),
    }
    path = tmp_path_factory.mktemp("made") / "log.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return path


@pytest.fixture
def log(made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    path.write_bytes(made.read_bytes())
    return path


def config(log: Path | None, **settings: Any) -> SimulationConfig:
    chosen = {"data.rows_in_memory": 100, "data.weights": {"view": 1.0, "like": 3.0}}
    if log is not None:
        chosen |= {"data.path": str(log), "data.cache": str(log.parent / "cache")}
    return load_config(None, chosen | {name.replace("__", "."): value for name, value in settings.items()})


def in_memory(log: Path, **settings: Any) -> SimulationConfig:
    return config(log, data__rows_in_memory=ROWS, data__cache=str(log.parent / "empty"), **settings)


def drafts(log: Path) -> list[Path]:
    """What the cache holds."""
    return sorted((log.parent / "cache" / "prepared").iterdir())


def test_a_log_on_disk_is_prepared_as_one_in_memory_and_leaves_nothing(log: Path) -> None:
    folder = log.parent / "films"
    folder.mkdir()
    log.rename(folder / "interactions.parquet")
    pd.DataFrame(
        {"item_id": range(60), "title": [f"A {item}" for item in range(60)], "genres": ["a", "b", "a|b"] * 20}
    ).to_csv(folder / "items.csv")
    pd.DataFrame({"user_id": range(100), "age": [20, 40] * 50}).to_csv(folder / "users.csv", index=False)
    settings = {"split__name": "item-cold", "filters__user_core": 3}
    found = prepare(config(folder, data__cache=str(log.parent / "cache"), **settings))
    whole = prepare(in_memory(folder, **settings))
    pd.testing.assert_frame_equal(found.catalogue, whole.catalogue)
    assert found.split.test.groups == whole.split.test.groups
    assert len(set(found.split.test.groups["age"])) == 3
    np.testing.assert_array_equal(found.split.candidates, whole.split.candidates)  # type: ignore[arg-type]  # it has some
    np.testing.assert_array_equal(found.inputs[FEATURES], whole.inputs[FEATURES])
    assert (found.name, found.repairs, found.dropped) == (whole.name, whole.repairs, whole.dropped)
    assert tuple(found.split.train_users) == whole.split.train_users
    assert found.exclusions() == whole.exclusions()
    assert found.fingerprint == whole.fingerprint
    assert found.histories is not None
    assert whole.histories is None
    (draft,) = (path for path in drafts(log) if path.is_dir())
    assert draft.stat().st_mode & 0o777 == draft.parent.stat().st_mode & 0o777 == 0o700
    del found
    assert not drafts(log)


def test_a_data_frame_above_the_limit_leaves_nothing(log: Path) -> None:
    frame = pd.read_parquet(log)
    found = prepare(config(log), frame)
    assert found.histories is not None
    assert found.histories.exists()
    assert found.fingerprint == prepare(in_memory(log), frame).fingerprint
    del found
    assert not drafts(log)


def test_a_failed_preparation_leaves_nothing(log: Path) -> None:
    with pytest.raises(InputError, match="`filters` must leave"):
        prepare(config(log, filters__user_core=59))
    assert not drafts(log)


def test_a_cache_that_is_no_folder_is_one_clear_line(log: Path) -> None:
    (log.parent / "dangling").symlink_to(log.parent / "nowhere")
    for name in ("a\0b", str(log), "/proc/nothing", str(log.parent / "dangling"), "x" * 300):
        with pytest.raises(InputError, match=r"`data.cache` must be ") as refused:
            prepare(config(log, data__cache=name))
        assert "\n" not in str(refused.value)


CHILD = """
import sys
from palate_core.errors import PalateError
from palate_sim.config import load_config
from palate_sim.preparation.preparation import prepare
stop = sys.argv[2]
def notify(event):
    print(event["step"], flush=True)
    if event["step"] == stop:
        sys.stdin.readline()
chosen = {"data.path": sys.argv[1], "data.cache": sys.argv[3], "data.rows_in_memory": 100}
try:
    print("fingerprint", prepare(load_config(None, chosen), None, notify).fingerprint)
except KeyboardInterrupt:
    print("interrupted")
"""


@contextmanager
def child(log: Path, stop: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that prepares the log, and waits for a line where it begins the step `stop`."""
    arguments = [sys.executable, "-c", CHILD, str(log), stop, str(log.parent / "cache")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], wanted: str) -> str:
    """Read what it prints up to a line that begins with `wanted`."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(wanted):
            return line
    raise AssertionError(f"{wanted} must be printed, got {seen}")


def test_an_interrupted_run_leaves_nothing(log: Path) -> None:
    for stop in ("repairing", "splitting"):
        with child(log, stop) as process:
            until(process, stop)
            process.send_signal(signal.SIGINT)
            until(process, "interrupted")
            assert process.wait() == 0
        assert not drafts(log)


def test_runs_at_once_have_drafts_of_their_own_and_a_killed_ones_is_removed_by_the_next(log: Path) -> None:
    with child(log, "splitting") as process:
        until(process, "splitting")
        found = prepare(config(log))
        assert len(drafts(log)) == 4, "two folders, each with its lock"
        process.kill()
        process.wait()
        del found
        assert len(drafts(log)) == 2
    prepare(config(log, seed=5))
    assert not drafts(log)


@pytest.mark.parametrize("largest", [2_000, 11_000], ids=["while reading", "while splitting"])
def test_a_full_disk_is_one_clear_line(log: Path, largest: int) -> None:
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest},) * 2)\n"
    code += "from palate_cli.__main__ import main\nmain()"
    settings = ["data.rows_in_memory=100", f"data.cache={log.parent / 'cache'}"]
    arguments = ["simulate", str(log), *(part for setting in settings for part in ("--set", setting))]
    arguments += ["--out", str(log.parent / "run")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("palate: `data.cache` must be a folder with room for a large log, got File too large")
    assert done.returncode == 2
    assert not drafts(log)


def test_a_run_on_disk_has_the_model_of_the_run_in_memory_and_is_resumed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(log.parent)
    cheap = {"privacy__noise": "seeded", "evaluation__baselines": [], "evaluation__projection": []}
    whole = experiment.start(in_memory(log, **cheap), out=Path("memory")).run()
    chosen = config(log, **cheap, data__path="log.parquet")

    def stop(event: Any) -> None:
        if event["event"] == "round":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.start(chosen, out=Path("disk")).run(stop)
    result = experiment.reopen(Path("disk")).run()
    assert result.model.data == whole.model.data
    assert result.items == whole.items
    assert result.metrics == whole.metrics
    del result
    assert not drafts(log)
