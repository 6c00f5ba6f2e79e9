import json
from pathlib import Path

import pytest

import palate_sim.plots as plots
from palate_sim.plots import Plots, frontier

SAMPLE = Path(__file__).parent / "samples" / "run.json"
MEASURED = {
    "name": "ml-1m", "metric": "recall_capped@20", "users": 4832, "delta": 1e-5, "privacy": "δ = 1e-5, unit: user",
    "epsilons": [1, 2, 5, 10], "quality": [0.26, 0.3, 0.341, 0.36], "projected": {"100": [0.39, 0.4, 0.415, 0.418]},
    "noised popularity": [0.186, 0.187, 0.188, 0.189], "popularity": 0.19, "ease": 0.42, "off": 0.4,
}  # fmt: skip
"""What `palate frontier` measured."""


@pytest.fixture
def sample():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))


@pytest.fixture
def result(sample):
    return sample["result"]


def texts(figure):
    return json.dumps(figure.to_plotly_json(), default=list, ensure_ascii=False)


def every(run):
    return [
        run.quality(), run.projection(), run.rounds(), *(run.parts(view) for view in ("activity", "taste", "items")),
        run.groups("gender"), run.delta_curve(),
    ]  # fmt: skip


def test_exports_are_complete():
    assert set(plots.__all__) <= set(dir(plots))
    methods = {name for name in dir(Plots) if not name.startswith("_")} - {"card", "result"}
    assert methods == set(plots.__all__) - {"Plots", "frontier"}


def test_every_figure_draws(sample):
    for figure in every(Plots(sample["result"], sample["card"])):
        assert figure.data
        assert figure.layout.height > 0
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_every_figure_takes_a_run_without_its_numbers():
    for figure in every(Plots({"name": "x", "dp": "central"})):
        json.loads(figure.to_json())


def test_the_bars_are_the_metrics_with_their_intervals(result):
    figure = plots.quality(result)
    bars = {name: (mean, up, down) for trace in figure.data for name, mean, up, down in
            zip(trace.y, trace.x, trace.error_x.array, trace.error_x.arrayminus, strict=True)}  # fmt: skip
    assert len(bars) == 7
    mean, up, down = bars["Palate"]
    stated = result["metrics"]["recall_capped@20"]
    assert (mean, mean + up, mean - down) == pytest.approx((stated["mean"], stated["high"], stated["low"]))
    assert figure.layout.yaxis.categoryarray[-1] == "EASE"


def test_eps_axes_carry_delta_unit_adjacency_and_accountant(sample):
    run = Plots(sample["result"], sample["card"])
    for figure in (frontier(MEASURED), run.projection(), run.rounds(), run.delta_curve()):
        title = figure.layout["xaxis2" if "xaxis2" in figure.layout else "xaxis"].title.text
        assert "unit: user" in title
        assert "adjacency: zero-out" in title
        assert "accountant: palate closed form" in title
        assert "δ = 1e-5" in title or figure.layout.yaxis.title.text == "δ"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"dp": "off"}, "NO PRIVACY: dp off"), ({"noise": "seeded"}, "NOT FOR RELEASE: seeded noise")],
)
def test_every_figure_is_stamped(sample, change, words):
    for figure in every(Plots(sample["result"] | change, sample["card"])):
        assert figure.layout.title.text == words


def test_text_from_data_is_escaped(result):
    evil = "<img src=x onerror=alert(1)>"
    result["baselines"][evil] = 0.3
    result["by_part"]["taste"]["models"][evil] = [0.1] * 4
    result["by_part"]["taste"]["parts"][0]["label"] = evil
    result["by_group"][evil] = {evil: 0.2}
    result["accountant"] = evil
    for figure in (plots.quality(result), plots.parts(result, "taste"), plots.groups(result, evil)):
        assert evil not in texts(figure)
        assert "&lt;img" in texts(figure)


def test_content_only_spends_the_same_budget_where_there_is_one(result):
    result["baselines"]["content_only"] = result["baselines"]["noised_popularity"]
    bars = {trace.name: list(trace.y) for trace in plots.quality(result).data}
    assert set(bars["same privacy budget"]) == {"noised popularity", "content only"}
    unprotected = {trace.name: list(trace.y) for trace in plots.quality({**result, "dp": "off"}).data}
    assert "same privacy budget" not in unprotected
    assert "content only" in unprotected["reads everybody's history, no privacy"]
