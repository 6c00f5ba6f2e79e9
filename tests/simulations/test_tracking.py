"""Runs in experiment trackers: each is really written, and read back from what it wrote.

MLflow and W&B are large: `make trackers` installs them in an environment of its own and runs all of this file.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import palate
from palate_common.records.key_file import load_key
from palate_core.errors import InputError
from palate_sim.config import load_config
from palate_sim.progress import Progress
from palate_sim.run import experiment
from palate_sim.run.result import Result
from palate_sim.tracking.tracker import Begun, Finished, check_tracker
from palate_sim.tracking.tracking import Tracking

QUICK: dict[str, Any] = {
    "evaluation.baselines": ["popularity"], "evaluation.projection": [], "evaluation.recency": [],
    "algorithm.settings.rounds": 3,
}  # fmt: skip
PLACES = {"tensorboard": "tensorboard:logs", "mlflow": "mlflow:sqlite:///runs.db", "wandb": "wandb:logs"}
ALL = [
    "tensorboard",
    *(
        pytest.param(kind, marks=[pytest.mark.trackers, pytest.mark.filterwarnings("default")])
        for kind in ("mlflow", "wandb")
    ),
]


@dataclass
class Kept:
    """What a tracker has of one run."""

    id: str
    name: str
    config: dict[str, str]
    values: dict[str, list[tuple[int, float]]]
    privacy: str
    files: dict[str, bytes]
    ended: str | None


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """120 users with 3 to 12 of 40 items."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, 41)
    odds /= odds.sum()
    chosen = [(user, item) for user in range(120) for item in rng.choice(40, rng.integers(3, 13), False, odds)]
    return pd.DataFrame(chosen, columns=["user_id", "item_id"])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, in which a tracker that can't be reached is asked once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return tmp_path


def from_tensorboard() -> Iterator[Kept]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for folder in sorted(Path("logs").iterdir()):
        values: dict[str, list[tuple[int, float]]] = {}
        config, privacy = {}, ""
        for model in (path for path in sorted(folder.iterdir()) if path.is_dir()):
            events = EventAccumulator(str(model)).Reload()
            for tag in events.Tags()["scalars"]:
                name = tag if model.name == "palate" else f"{tag} {model.name}"
                values[name] = [(event.step, event.value) for event in events.Scalars(tag)]
            if model.name == "palate":
                texts = {
                    tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]
                }
                rows = [row.strip("|").split("|") for row in texts["config"].splitlines()[2:]]
                config = {row[0].strip(): row[1].strip() for row in rows}
                privacy = texts["privacy"]
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        yield Kept(folder.name.rpartition("-")[2], folder.name.rpartition("-")[0], config, values, privacy, files, None)


def from_mlflow() -> Iterator[Kept]:
    """From the database itself, without MLflow's client."""
    with sqlite3.connect("runs.db") as base:
        for run, name, status, artefacts in base.execute("select run_uuid, name, status, artifact_uri from runs"):
            tags = dict(base.execute("select key, value from tags where run_uuid = ?", (run,)))
            values: dict[str, list[tuple[int, float]]] = {}
            for key, step, value in base.execute(
                "select key, step, value from metrics where run_uuid = ? order by step", (run,)
            ):
                values.setdefault(key.replace("_at_", "@"), []).append((step, value))
            params = dict(base.execute("select key, value from params where run_uuid = ?", (run,)))
            files = {path.name: path.read_bytes() for path in Path(artefacts.removeprefix("file://")).glob("*")}
            yield Kept(tags["palate.run"], name, params, values, tags["privacy"], files, status)
    base.close()


def from_wandb() -> Iterator[Kept]:
    """From the records of the last folder of an id, which has all of the run."""
    from wandb.proto import wandb_internal_pb2

    runs: dict[str, Kept] = {}
    for folder in sorted(Path("logs/wandb").glob("offline-run-*")):
        (file,) = folder.glob("*.wandb")
        kept = None
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            match record.WhichOneof("record_type"):
                case "run":
                    run = record.run
                    config = {each.key: str(json.loads(each.value_json)) for each in run.config.update}
                    kept = runs[run.run_id] = Kept(run.run_id, run.display_name, config, {}, run.notes, {}, None)
                case "history":
                    assert kept is not None
                    row = {each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
                    for key in (key for key in row if not key.startswith("_")):
                        kept.values.setdefault(key, []).append((row["_step"], row[key]))
                case "summary":
                    assert kept is not None
                    for each in record.summary.update:
                        if each.key == "privacy":
                            kept.privacy = json.loads(each.value_json)
                        elif each.key and not each.key.startswith("_"):
                            kept.values.setdefault(each.key, []).append((-1, json.loads(each.value_json)))
                case "exit":
                    assert kept is not None
                    kept.ended = "KILLED" if record.exit.exit_code else "FINISHED"
        if kept is not None:
            kept.files |= {path.name: path.read_bytes() for path in (folder / "files").iterdir()}
    yield from runs.values()


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, after W&B's own header of 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole, at = whole + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


READ: dict[str, Callable[[], Iterator[Kept]]] = {
    "tensorboard": from_tensorboard,
    "mlflow": from_mlflow,
    "wandb": from_wandb,
}


def curve(result: Mapping[str, Any], key: str) -> list[tuple[int, float]]:
    return [(row["round"] + 1, pytest.approx(row[key], rel=1e-6)) for row in result["curve"]]


@pytest.mark.parametrize("kind", ALL)
def test_a_run_is_read_back(kind: str, frame: pd.DataFrame, desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = palate.simulate(frame, epsilon=8, out="run", track=PLACES[kind], settings=QUICK)
    assert capfd.readouterr() == ("", "")
    (kept,) = READ[kind]()
    said = result.summary
    assert len(said["curve"]) == 3
    assert kept.values["validation/recall_capped@20"] == curve(said, "recall_capped@20")
    assert kept.values["validation/recall_capped@20 low"] == curve(said, "low")
    assert kept.values["validation/mean_rank"] == curve(said, "mean_rank")
    assert kept.values["privacy/epsilon"] == curve(said, "epsilon")
    for name, models in (("", said["metrics"]), (" popularity", said["baselines"]["popularity"])):
        for metric, value in models.items():
            assert kept.values[f"test/{metric}{name}"][-1][1] == pytest.approx(value["mean"], rel=1e-6)
    assert kept.values["cost/epsilon"][-1][1] == pytest.approx(result.epsilon)
    assert kept.config["privacy.epsilon"] == "8.0"
    assert kept.config["algorithm.settings.rounds"] == "3"
    assert "track" not in kept.config
    assert kept.name == "run"
    assert result.card["public_key"].startswith(kept.id)
    assert kept.privacy.startswith("ε = 8 (δ = 1e-5, unit: user, adjacency: zero-out, accountant:")
    assert kept.files == {name: (result.folder / name).read_bytes() for name in ("report.html", "privacy_card.json")}
    assert kept.ended in ("FINISHED", None)

    # Nothing else than report and card hold: no key, no sums, no numbers of a round, no account or command.
    known = ("validation/", "test/", "privacy/epsilon", "cost/")
    assert all(name.startswith(known) for name in kept.values)
    secret = (result.folder / "key").read_bytes().strip()
    assert len(secret) >= 32
    load_key(result.folder / "key")
    places = [path for path in desk.rglob("*") if path.is_file() and "run" not in path.relative_to(desk).parts[:1]]
    written = b"".join(path.read_bytes() for path in places if "ledger.db" not in path.name)
    assert secret not in written
    assert os.fsencode(Path(__file__).name) not in written
    assert "track" not in kept.config
    assert os.fsencode(desk) not in kept.files["report.html"], "a tracker's place is in somebody's home folder"


@pytest.mark.parametrize("kind", ALL)
def test_a_run_that_was_cut_off_goes_on_as_the_same(kind: str, frame: pd.DataFrame, desk: Path) -> None:
    def cut(event: Mapping[str, Any]) -> None:
        progress(event)
        if event.get("event") == "round" and event["round"] == 1:
            raise KeyboardInterrupt

    config = load_config(None, {**QUICK, "privacy.epsilon": 8.0, "track": PLACES[kind]})
    started = experiment.start(config, source=frame, out=desk / "run")
    with Progress(started.folder.events, quiet=True) as progress, pytest.raises(KeyboardInterrupt):
        started.run(cut)
    (before,) = READ[kind]()
    assert [step for step, _ in before.values["privacy/epsilon"]] == [1, 2]
    assert before.ended in ("KILLED", None)
    assert before.privacy.startswith("ε with δ = 1e-5, unit: user")

    if kind == "mlflow":  # as if it hadn't been reached
        with sqlite3.connect("runs.db") as base:
            base.execute("delete from metrics where step = 1")
        base.close()
    if kind == "wandb":  # as if it had been killed before W&B wrote anything
        (file,) = Path("logs/wandb").glob("offline-run-*/*.wandb")
        file.write_bytes(file.read_bytes()[:7])

    again = experiment.reopen(desk / "run", source=frame)
    with Progress(again.folder.events, quiet=True) as progress:
        result = again.run(progress)
    (kept,) = READ[kind]()
    assert kept.id == before.id
    assert kept.values["privacy/epsilon"] == curve(result.summary, "epsilon")
    assert kept.values["validation/mean_rank"] == curve(result.summary, "mean_rank")
    assert kept.files["report.html"] == result.report.read_bytes()
    assert kept.ended in ("FINISHED", None)


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("tensorboard", "tensorboard:a-file/logs"),
        pytest.param("wandb", "wandb:a-file/logs", marks=ALL[1].marks),  # type: ignore[attr-defined]
        pytest.param("mlflow", "mlflow:http://127.0.0.1:9", marks=ALL[1].marks),  # type: ignore[attr-defined]
        pytest.param("mlflow", "mlflow:sqlite:///a-file/x.db", marks=ALL[1].marks),  # type: ignore[attr-defined]
    ],
)
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(
    kind: str, where: str, frame: pd.DataFrame, desk: Path
) -> None:
    (desk / "a-file").write_text("")
    config = load_config(None, {**QUICK, "track": where})
    events: list[Mapping[str, Any]] = []
    result = experiment.start(config, source=frame, out=desk / "run").run(events.append)
    told = [event["error"] for event in events if event["event"] == "untracked"]
    assert len(told) == 1
    assert "\n" not in told[0]
    assert events[-1]["event"] == "done"
    assert Result.read(desk / "run").summary == result.summary
    with pytest.raises(InputError, match="must name a tracker that works"):
        result.track(where)


def test_a_finished_run_is_tracked_later_as_it_would_have_been(frame: pd.DataFrame, desk: Path) -> None:
    result = palate.simulate(frame, epsilon=8, out="run", settings=QUICK)
    Result.read(result.folder).track("tensorboard:logs")
    (kept,) = from_tensorboard()
    assert kept.values["privacy/epsilon"] == curve(result.summary, "epsilon")
    assert kept.values["test/ndcg@10 popularity"][-1][0] == 3
    assert kept.files["privacy_card.json"] == (result.folder / "privacy_card.json").read_bytes()


class Full:
    """A tracker whose disk is full from the second round on."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self, run: Begun) -> None:
        self.seen.append(run.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > 1:
            raise OSError(28, "No space left\non device")
        self.seen.append(f"round {step}")

    def finish(self, result: Finished) -> None:
        self.seen.append("finish")

    def close(self, *, finished: bool) -> None:
        self.seen.append(f"closed, finished {finished}")


def test_a_tracker_that_failed_is_let_go(tmp_path: Path) -> None:
    tracker, events = Full(), list[Mapping[str, Any]]()
    told = Tracking(lambda: tracker, run="ab" * 32, folder=tmp_path / "one", config={}, notify=events.append)
    told({"event": "prepared", "privacy": {}})
    for round_ in range(3):
        told({"event": "round", "round": round_, "epsilon": 1.0})
    told({"event": "done"})
    told.close()
    assert tracker.seen == ["one", "round 1", "closed, finished False"]
    names = [event["event"] for event in events]
    assert names == ["prepared", "round", "untracked", "round", "round", "done"]
    assert events[2]["error"] == "OSError: [Errno 28] No space left"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mlfow:x", "`track` must be mlflow:URI, wandb:DIR or tensorboard:DIR, got 'mlfow:...'"),
        ("tensorboard", "`track` must be mlflow:URI"),
        ("tensorboard: ", "`track` must be mlflow:URI"),
        ("mlflow:https://me:secret@host/", "`track` must have no password in it"),
        ("mlflow:postgresql://me:secret@host/base", "`track` must have no password in it"),
        ("mlflow:postgresql://host/base?user=me&password=secret", "`track` must have no password in it, nor a token"),
        ("mlflow:https://secret@host/", "`track` must have no password in it, nor a token"),
        ("mlflow:https://host/?key=secret", "`track` must have no password in it, nor a token"),
        ("mlflow:http://[secret", "`track` must name a place, got one that isn't an address"),
    ],
)
def test_what_is_no_tracker_is_refused_before_anything_is_read(where: str, message: str, desk: Path) -> None:
    with pytest.raises(InputError) as caught:
        palate.simulate("nothing.csv", track=where)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not any(desk.iterdir())


def test_a_tracker_does_not_write_into_the_folder_whose_files_are_signed(frame: pd.DataFrame, desk: Path) -> None:
    with pytest.raises(InputError, match="`track` must lead out of the run folder"):
        palate.simulate(frame, out="run", track="tensorboard:run/logs")
    assert not any(desk.iterdir())


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate_sim.tracking.tracker.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package mlflow: pip install 'palate\[track\]'"):
        check_tracker("mlflow:x")


def test_a_name_cannot_leave_the_folder(desk: Path) -> None:
    from palate_sim.tracking.tensorboard import TensorBoardTracker

    tracker = TensorBoardTracker("logs")
    tracker.begin(Begun("ab" * 16, "../..", {"a": "b"}, "none"))
    tracker.finish(Finished(1, {}, {"../../evil": {"test/x": 1.0}, "..": {"test/x": 1.0}}, "none"))
    tracker.close(finished=True)
    assert [path.name for path in desk.iterdir()] == ["logs"]
    assert [path.name for path in Path("logs").iterdir()] == ["unnamed-abababab"]
    assert sorted(path.name for path in Path("logs/unnamed-abababab").iterdir()) == ["evil", "palate", "unnamed"]


@pytest.mark.trackers
@pytest.mark.filterwarnings("default")
def test_a_server_that_does_not_answer_does_not_hold_a_run_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate_sim.tracking import mlflow

    for name in mlflow.PATIENCE:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "0")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(mlflow, "PATIENCE", {**mlflow.PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"})
    events = list[Mapping[str, Any]]()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = mlflow.MlflowTracker(f"http://127.0.0.1:{silent.getsockname()[1]}")
        told = Tracking(lambda: tracker, run="ab" * 32, folder=tmp_path, config={}, notify=events.append)
        told({"event": "prepared", "privacy": {}})
        told.close()
    assert [event["event"] for event in events] == ["untracked", "prepared"]
