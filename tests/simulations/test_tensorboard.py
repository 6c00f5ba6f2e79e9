import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from palate_common.errors import InputError
from palate_sim.progress.tensorboard import export

SAMPLE = Path(__file__).parent / "samples" / "run.json"


@pytest.fixture
def result():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))["result"]


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def text(events, tag):
    return events.Tensors(tag)[0].tensor_proto.string_val[0].decode()


def test_the_curve_is_read_back(result, tmp_path):
    assert export(result, tmp_path / "tb") == tmp_path / "tb"
    events = read(tmp_path / "tb" / "palate")
    for tag, key in (
        ("validation/recall_capped@20", "recall_capped@20"),
        ("validation/mean_rank", "loss"),
        ("privacy/epsilon", "epsilon"),
    ):
        expected = [(row["round"] + 1, row[key]) for row in result["curve"] if row[key] is not None]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert events.Scalars("cost/bytes_up")[0].value == result["bytes_per_client"]["up"]


def test_every_baseline_is_a_run_with_the_same_tag(result, tmp_path):
    export(result, tmp_path)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [
        "device_only", "ease", "ials", "item_knn", "noised_popularity", "palate", "popularity",
    ]  # fmt: skip
    for folder, raw in (("ease", result["baselines"]["ease"]), ("palate", result["metrics"])):
        found = read(tmp_path / folder).Scalars("test/recall_capped@20")
        assert [event.step for event in found] == [1, 4]
        assert found[0].value == pytest.approx(raw["recall_capped@20"]["mean"], rel=1e-6)


def test_eps_and_the_stamp_are_written_in_words(result, tmp_path):
    export(result | {"noise": "seeded"}, tmp_path)
    events = read(tmp_path / "palate")
    words = text(events, "privacy")
    assert words.startswith("NOT FOR RELEASE: seeded noise")
    assert "unit: user, adjacency: zero-out, accountant: palate closed form" in words
    assert '"name": "als"' in text(events, "config")


def test_a_run_without_numbers_is_written(tmp_path):
    export({"name": "x"}, tmp_path)
    assert read(tmp_path / "palate").Tags()["scalars"] == []


def test_a_baseline_cannot_leave_the_folder(result, tmp_path):
    export(result | {"baselines": {"../../evil": result["metrics"], "..": result["metrics"]}}, tmp_path / "tb")
    assert [path.name for path in tmp_path.iterdir()] == ["tb"]
    assert sorted(path.name for path in (tmp_path / "tb").iterdir()) == ["baseline", "evil", "palate"]


def test_a_missing_package_names_the_extra(result, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'palate\[torch\]'"):
        export(result, tmp_path)
