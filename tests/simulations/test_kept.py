"""A large log is prepared once: later runs map it, and whatever goes wrong leaves nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from palate_common.algorithms.als.algorithm import FEATURES
from palate_core.errors import InputError
from palate_sim.config import SimulationConfig, load_config
from palate_sim.preparation.kept import MANIFEST
from palate_sim.preparation.preparation import Prepared, prepare
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


def steps_of(chosen: SimulationConfig, source: Any = None) -> tuple[Prepared, set[str]]:
    """What is prepared, and the names of the steps that it took."""
    steps: set[str] = set()
    return prepare(chosen, source, lambda event: steps.add(event["step"])), steps


def kept(log: Path) -> list[Path]:
    """What the cache holds."""
    return sorted((log.parent / "cache" / "prepared").iterdir())


READING = {"reading", "repairing", "splitting"}


def test_a_second_run_reads_nothing_again(log: Path) -> None:
    first, steps = steps_of(config(log))
    assert steps >= READING
    second, steps = steps_of(config(log))
    assert steps == {"checking prepared histories"}
    whole = prepare(in_memory(log))
    for one in (first, second):
        assert one.fingerprint == whole.fingerprint
        assert (one.name, one.repairs, one.dropped, one.terms) == (whole.name, whole.repairs, whole.dropped, "")
        assert tuple(one.split.train_users) == whole.split.train_users
        assert (one.split.skipped, one.split.notes) == (whole.split.skipped, whole.split.notes)
        assert one.histories is not None
    assert whole.histories is None
    folder = kept(log)
    assert len(folder) == 1
    assert folder[0].stat().st_mode & 0o777 == folder[0].parent.stat().st_mode & 0o777 == 0o700


def test_what_is_reopened_has_its_catalogue_groups_and_candidates(log: Path) -> None:
    folder = log.parent / "films"
    folder.mkdir()
    log.rename(folder / "interactions.parquet")
    pd.DataFrame(
        {"item_id": range(60), "title": [f"A {item}" for item in range(60)], "genres": ["a", "b", "a|b"] * 20}
    ).to_csv(folder / "items.csv")
    pd.DataFrame({"user_id": range(100), "age": [20, 40] * 50}).to_csv(folder / "users.csv", index=False)
    settings = {"split__name": "item-cold", "filters__user_core": 3}
    chosen = config(folder, data__cache=str(log.parent / "cache"), **settings)
    steps_of(chosen)
    again, steps = steps_of(chosen)
    assert "reading" not in steps
    whole = prepare(in_memory(folder, **settings))
    pd.testing.assert_frame_equal(again.catalogue, whole.catalogue)
    assert again.split.test.groups == whole.split.test.groups
    assert len(set(again.split.test.groups["age"])) == 3
    np.testing.assert_array_equal(again.split.candidates, whole.split.candidates)  # type: ignore[arg-type]  # it has some
    np.testing.assert_array_equal(again.inputs[FEATURES], whole.inputs[FEATURES])
    assert again.exclusions() == whole.exclusions()
    assert again.fingerprint == whole.fingerprint


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 7},
    "split": {"split__name": "leave-last-out"},
    "filter": {"filters__item_core": 2},
    "weights": {"data__weights": {"view": 1.0, "like": 2.0}},
    "half-life": {"positives__half_life_days": 3.0},
    "columns": {"data__columns": {"kind": ""}, "data__weights": None},
}


def test_other_settings_and_other_files_are_prepared_anew(log: Path) -> None:
    steps_of(config(log))
    for number, settings in enumerate(CHANGES.values()):
        _, steps = steps_of(config(log, **settings))
        assert steps >= READING
        assert len(kept(log)) == number + 2
    os.utime(log, ns=(1, 1))
    _, steps = steps_of(config(log))
    assert steps >= READING
    _, steps = steps_of(config(log, privacy__epsilon=0.5, data__rows_in_memory=50))
    assert not steps & READING


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_any_change_of_what_is_kept_is_refused(log: Path) -> None:
    steps_of(config(log, split__name="user-cold-1"))
    (folder,) = kept(log)
    assert len(files_of(folder)) > 20

    def refused() -> str:
        with pytest.raises(InputError, match="must be prepared histories as they were written, got ") as error:
            prepare(config(log, split__name="user-cold-1"))
        assert "\n" not in str(error.value)
        assert str(error.value).endswith(f"in {folder}: delete that folder, and the log is prepared again")
        return str(error.value)

    for path in files_of(folder):
        content = path.read_bytes()
        if path.name != MANIFEST:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert f"{path.relative_to(folder)} was changed" in refused()
        path.write_bytes(content[: len(content) // 2])
        refused()
        path.unlink()
        refused()
        path.write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for broken in ([], {}, manifest | {"format": 0}, manifest | {"files": {}}, manifest | {"facts": {}}, 5):
        (folder / MANIFEST).write_text(json.dumps(broken))
        refused()


def test_a_data_frame_above_the_limit_leaves_nothing(log: Path) -> None:
    frame = pd.read_parquet(log)
    found = prepare(config(log), frame)
    assert found.histories is not None
    assert found.histories.exists()
    assert found.fingerprint == prepare(in_memory(log), frame).fingerprint
    del found
    assert not kept(log)


def test_a_failed_preparation_leaves_nothing(log: Path) -> None:
    with pytest.raises(InputError, match="`filters` must leave"):
        prepare(config(log, filters__user_core=59))
    assert not kept(log)


def test_a_log_that_changes_while_it_is_read_is_not_kept(log: Path) -> None:
    def notify(event: Any) -> None:
        if event["step"] == "repairing":
            os.utime(log, ns=(1, 1))

    with pytest.raises(InputError, match="`data` must stay as it is while it is read, got a file that was changed"):
        prepare(config(log), None, notify)
    assert not kept(log)


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


def test_runs_at_once_share_one_preparation_and_a_killed_one_leaves_it_to_the_next(log: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(child(log, "splitting"))
        until(first, "splitting")
        others = [stack.enter_context(child(log)) for _ in range(2)]
        for other in others:
            until(other, "waiting for another run that prepares this log")
        (draft,) = (path for path in kept(log) if path.suffix == ".partial")
        assert draft.stat().st_mode & 0o777 == 0o700
        first.send_signal(signal.SIGKILL)
        found = {until(other, "fingerprint") for other in others}
    assert len(found) == 1
    assert [path.suffix for path in kept(log)] == [""]
    assert not list(log.parent.rglob(".rows-*"))


def test_an_interrupted_run_leaves_nothing(log: Path) -> None:
    for stop in ("repairing", "splitting"):
        with child(log, stop) as process:
            until(process, stop)
            process.send_signal(signal.SIGINT)
            until(process, "interrupted")
            assert process.wait() == 0
        assert not kept(log)


def test_the_draft_of_a_killed_run_is_removed_by_a_run_on_another_log(log: Path) -> None:
    with child(log, "splitting") as process:
        until(process, "splitting")
        process.kill()
        process.wait()
    assert {path.suffix for path in kept(log)} == {".partial", ".lock"}
    prepare(config(log, seed=5))
    assert [path.suffix for path in kept(log)] == [""]


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
    assert not kept(log)


def test_a_run_on_disk_has_the_model_of_the_run_in_memory_and_is_resumed_without_reading(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(log.parent)
    cheap = {"privacy__noise": "seeded", "evaluation__baselines": [], "evaluation__projection": []}
    whole = experiment.start(in_memory(log, **cheap), out=Path("memory")).run()
    chosen = config(log, **cheap, data__path="log.parquet")
    steps: set[str] = set()

    def stop(event: Any) -> None:
        steps.add(event.get("step", event["event"]))
        if event["event"] == "round":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.start(chosen, out=Path("disk"), notify=stop).run(stop)
    assert steps >= READING
    steps.clear()
    result = experiment.reopen(Path("disk"), notify=lambda event: steps.add(event["step"])).run()
    assert not steps & READING
    assert result.model.data == whole.model.data
    assert result.items == whole.items
    assert result.metrics == whole.metrics
