"""The ClientApp: plan in, contribution or the constant refusal out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from palate_common.interactions import Interactions, map_interactions
from palate_common.rounds.wire import REFUSED
from palate_core.device.floors import Floors
from palate_core.errors import InputError, PalateError
from palate_sim.engines import node
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.grid import identify
from palate_sim.engines.node import app, host_from_config


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No host of another test."""
    identify()
    yield
    node.close_host()


def context_for(partition: int, config: dict[str, Any] | None = None) -> Context:
    return Context(1, 1, {"partition-id": partition, "num-partitions": 3}, RecordDict(), config or {})


def asked(client: Any, context: Context, **record: Any) -> bytes:
    message = Message(RecordDict({"palate": ConfigRecord(record)}), 1, "train")
    reply = client(message, context)
    assert list(reply.content) == ["palate"]
    answer = reply.content["palate"]["contribution"]
    assert isinstance(answer, bytes)
    return answer


def written(folder: Path, histories: Interactions) -> Path:
    folder.mkdir()
    for name in ("indptr", "indices", "weights", "n_items"):
        np.save(folder / f"{name}.npy", getattr(histories, name))
    return folder


def config_for(run: Any, folder: Path) -> dict[str, Any]:
    return {
        "histories": str(written(folder / "histories", run.histories)),
        "users-per-node": 16,
        "devices": str(folder / "devices.db"),
        "public-key": run.key.public,
        "floors": json.dumps(asdict(run.floors)),
    }


def test_shards_cut_the_population_into_consecutive_users(histories: Interactions) -> None:
    shards = Shards(histories, 16)
    parts = [shards.shard(number) for number in range(3)]
    assert [list(devices) for _, devices in parts] == [list(range(16)), list(range(16, 32)), list(range(32, 40))]
    assert np.concatenate([batch.indices for batch, _ in parts]).tolist() == histories.indices.tolist()
    for absent in (-1, 3):
        with pytest.raises(InputError, match="node"):
            shards.shard(absent)


def test_the_app_answers_as_the_contributor_does(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    expected = [contributor.answer(plan, model) for contributor in run.nodes(16)]
    config = config_for(run, tmp_path)
    answers = [asked(app, context_for(number, config), plan=plan, model=model) for number in range(3)]
    assert answers == expected
    assert REFUSED not in answers


def test_an_attempt_is_answered_once(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    config = config_for(run, tmp_path)
    assert asked(app, context_for(0, config), plan=plan, model=model) != REFUSED
    node.close_host()  # a restarted process remembers, because the ledger is a file
    assert asked(app, context_for(0, config), plan=plan, model=model) == REFUSED


def test_one_process_opens_its_host_once(make_run: Any, tmp_path: Path) -> None:
    config = config_for(make_run(), tmp_path)
    assert host_from_config(context_for(0, config)) is host_from_config(context_for(2, dict(config)))


def test_the_host_of_another_run_closes_the_former_ones_ledger(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    config = config_for(run, tmp_path)
    first = host_from_config(context_for(0, config))
    with pytest.raises(InputError, match="floors"):  # what doesn't fit leaves it open
        host_from_config(context_for(0, config | {"floors": "[]"}))
    assert host_from_config(context_for(0, config)) is first
    second = host_from_config(context_for(0, config | {"devices": str(tmp_path / "others.db")}))
    assert second is not first
    with pytest.raises(PalateError, match="closed"):
        first.ledger.spent(0)
    assert second.ledger.spent(0) == 0.0


@pytest.mark.parametrize("record", [{}, {"plan": b"x"}, {"plan": "text", "model": 3}, {"plan": b"", "model": b""}])
def test_what_is_not_a_plan_is_refused(make_run: Any, tmp_path: Path, record: dict[str, Any]) -> None:
    assert asked(app, context_for(0, config_for(make_run(), tmp_path)), **record) == REFUSED


def test_a_message_of_another_kind_is_refused(make_run: Any, tmp_path: Path) -> None:
    message = Message(RecordDict({"palate": MetricRecord({"x": 1})}), 1, "train")
    reply = app(message, context_for(0, config_for(make_run(), tmp_path)))
    assert reply.content["palate"]["contribution"] == REFUSED


def test_whatever_goes_wrong_the_answer_says_nothing(
    make_run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()

    class Broken:
        def shard(self, number: int) -> Any:
            raise RuntimeError("user 17 watched the film")

    host = Host(Broken(), run.devices, run.key.public, Floors())
    with caplog.at_level(logging.ERROR):
        assert asked(node_app(lambda context: host), context_for(0), plan=b"", model=b"") == REFUSED
    assert "user 17" in caplog.text


def test_floors_come_from_the_config(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    coordinator = run.coordinator()
    plan, model = coordinator.open_attempt(), coordinator.model.data
    config = config_for(run, tmp_path) | {"floors": json.dumps(asdict(Floors()))}  # an app's: no seeded noise
    assert asked(app, context_for(0, config), plan=plan, model=model) == REFUSED


def test_a_query_is_answered_with_the_device_and_nothing_else(make_run: Any, tmp_path: Path) -> None:
    asked = RecordDict({"palate": ConfigRecord({"who": True})})
    reply = app(Message(asked, 1, "query"), context_for(1, config_for(make_run(), tmp_path)))
    assert {name: dict(record) for name, record in reply.content.items()} == {"palate": {"device": 16}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"histories": None}, "run-config must name 'histories'"),
        ({"floors": "[1, 2"}, "`floors` must be"),
        ({"floors": '{"unknown": 1}'}, "`floors` must be"),
        ({"histories": "/nowhere"}, "`histories` must be a folder"),
    ],
)
def test_a_config_that_does_not_fit_is_named(make_run: Any, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    config = config_for(make_run(), tmp_path) | change
    config = {key: value for key, value in config.items() if value is not None}
    with pytest.raises(InputError, match=match):
        host_from_config(context_for(0, config))


def test_histories_are_mapped_and_equal(histories: Interactions, tmp_path: Path) -> None:
    loaded = map_interactions(written(tmp_path / "histories", histories))
    for name in ("indptr", "indices", "weights"):
        assert np.array_equal(getattr(loaded, name), getattr(histories, name))
        assert type(getattr(loaded, name)) is np.ndarray
    assert loaded.n_items == histories.n_items
    assert isinstance(loaded.indices.base, np.memmap)


def test_one_number_may_stand_for_all_weights(histories: Interactions, tmp_path: Path) -> None:
    folder = written(tmp_path / "histories", histories)
    np.save(folder / "weights.npy", np.float32(1))
    loaded = map_interactions(folder)
    assert loaded.weights.strides == (0,)
    assert loaded.weights.tolist() == [1.0] * histories.nnz
    batch = loaded.users(slice(3, 9))
    assert np.array_equal(batch.weights, np.ones(batch.nnz, np.float32))
