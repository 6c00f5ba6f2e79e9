"""The ServerApp in this process: what it tells whoever waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from palate_common.models.model import GlobalModel
from palate_common.records.key_file import save_key
from palate_core.errors import IntegrityError, LockedError, PalateError
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan
from palate_server.rounds.lock import RunLock
from palate_server.rounds.run import run_rounds
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.flower.server_app import ServerJob, app, await_nodes
from palate_sim.engines.grid import LocalGrid
from palate_sim.engines.in_process import InProcess

ALS = {"algorithm": "als", "settings": {"popularity_only_below": 0.0}}


def prepared(run: Any, folder: Path, **changes: Any) -> tuple[ServerJob, Context]:
    """A job file in a private folder, and the context that names it."""
    (folder / "run").mkdir()
    (folder / "engine").mkdir()
    save_key(run.key, folder / "run" / "release.key")
    parts = {"folder": folder / "run", "terms": run.terms, "ledger": folder / "ledger.db", "nodes": 3}
    job = ServerJob(**{**parts, "key": folder / "run" / "release.key", **changes})
    (folder / "engine" / "job.json").write_text(job.model_dump_json())
    return job, Context(1, 1, {}, RecordDict(), {"job": str(folder / "engine" / "job.json")})


def grid_of(run: Any) -> LocalGrid:
    host = Host(Shards(run.histories, 16), run.devices, run.key.public, run.floors)
    return LocalGrid(node_app(lambda context: host), nodes=3)


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "engine" / "progress.jsonl").read_text().splitlines()]


def test_it_tells_each_release_and_leaves_its_model(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**ALS)
    run_rounds(expected := run.coordinator(), InProcess(run.nodes()))
    again = make_run(**ALS)
    again.key, again.folder = run.key, tmp_path / "again"
    again.folder.mkdir()
    _, context = prepared(again, tmp_path)
    app(grid_of(again), context)
    training, *releases, trained = told(tmp_path)
    assert training == {"event": "training"}
    assert [each["plan"]["round"] for each in releases] == list(range(expected.rounds))
    assert all(RoundPlan.model_validate(each["plan"]).run == "run-1" for each in releases)
    counts = {"rejected": 0, "refused_nodes": 0, "malformed_nodes": 0}
    assert releases[0]["aggregate"] == {"users": 40, "subcohorts": 1} | counts
    assert trained == {"event": "trained", "model": releases[-1]["model"]}
    for each in releases:
        GlobalModel.from_bytes((tmp_path / "engine" / each["model"]).read_bytes())
    assert (tmp_path / "engine" / trained["model"]).read_bytes() == expected.model.data


def test_a_finished_run_is_told_too(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    _, context = prepared(run, tmp_path)
    app(grid_of(run), context)
    app(grid_of(run), context)
    assert [each["event"] for each in told(tmp_path)] == ["training", "release", "trained", "training", "trained"]


def test_what_goes_wrong_is_told_before_it_is_raised(make_run: Any, tmp_path: Path) -> None:
    run = make_run(cohort_floor=1000)
    _, context = prepared(run, tmp_path)
    with pytest.raises(IntegrityError):
        app(grid_of(run), context)
    *_, failed = told(tmp_path)
    assert (failed["event"], failed["kind"]) == ("failed", "IntegrityError")
    assert "at least 1000" in failed["error"]


def test_an_owned_folder_is_told(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    job, context = prepared(run, tmp_path)
    with RunLock(job.folder), pytest.raises(LockedError):
        app(grid_of(run), context)
    assert told(tmp_path)[0]["kind"] == "LockedError"


def test_a_job_that_cannot_be_read_is_told(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    _, context = prepared(run, tmp_path)
    (tmp_path / "engine" / "job.json").write_text("{}")
    with pytest.raises(ValueError, match="folder"):
        app(grid_of(run), context)
    assert told(tmp_path)[0]["kind"] == "ValidationError"


def test_a_key_that_is_not_the_devices_gets_no_contribution(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    other = tmp_path / "other.key"
    save_key(SigningKey.generate(), other)
    _, context = prepared(run, tmp_path, key=other)
    with pytest.raises(IntegrityError, match="got 0"):
        app(grid_of(run), context)


def test_nothing_is_charged_before_the_nodes_are_there(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    _, context = prepared(run, tmp_path, nodes=4, online_seconds=0.2)
    with pytest.raises(PalateError, match="got 3"):
        app(grid_of(run), context)
    assert [each["event"] for each in told(tmp_path)] == ["failed"]


def silent(message: Message, context: Context) -> Message:
    raise RuntimeError


@pytest.mark.parametrize("lost", [False, True])
def test_nodes_that_are_listed_must_also_answer(lost: bool) -> None:
    client = ClientApp()
    client.query()(silent)

    class Grid(LocalGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return [] if lost else super().pull_messages(message_ids)

    with pytest.raises(PalateError, match="a node must answer"):
        await_nodes(Grid(client, nodes=2), 2, seconds=1.0)
