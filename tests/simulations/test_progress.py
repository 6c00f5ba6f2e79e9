import io
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from palate_sim.progress import Progress, print_result, result_table, wording
from palate_sim.progress.steps import said

SAMPLE = Path(__file__).parent / "samples" / "run.json"
EVENTS = [
    {
        "event": "prepared",
        "name": "ml-latest-small",
        "algorithm": "als",
        "users": 537,
        "items": 9066,
        "interactions": 80412,
        "privacy": {"dp": "central", "delta": 1e-5, "unit": "user", "adjacency": "zero-out", "accountant": "closed"},
    },
    {"event": "release", "round": 0, "what": "popularity counts"},
    {"event": "round", "round": 0, "rounds": 1, "epsilon": 1.5061, "recall_capped@20": 0.196, "seconds": 0.4},
    {
        "event": "round",
        "round": 1,
        "rounds": 1,
        "epsilon": 5.0,
        "recall_capped@20": 0.242,
        "mean_rank": 0.2513,
        "seconds": 0.7,
    },
    {"event": "baseline", "name": "item_knn", "recall_capped@20": {"mean": 0.38, "low": 0.36, "high": 0.4}},
    {"event": "done", "seconds": 14.8},
]


@pytest.fixture
def result():
    return json.loads(SAMPLE.read_text(encoding="utf-8"))["result"]


def screen(*, terminal=False, width=100):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def settles_at(threads):
    end = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.01)
    return threading.active_count() <= threads  # those of earlier tests may end, too


def shown(renderable, width=100):
    console = screen(width=width)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("spent", "text"), [(4.99951, "5"), (4.9991, "5"), (1.5, "1.5"), (1.50001, "1.501"), (0.0, "0")]
)
def test_eps_is_never_printed_below_what_was_spent(spent, text):
    assert wording.epsilon_text(spent) == text


def test_eps_stands_with_its_qualifiers(result):
    line = wording.epsilon_line(result)
    assert line == "ε = 5 (δ = 1e-5, unit: user, adjacency: zero-out, accountant: palate closed form; dp central)"


def test_no_eps_is_claimed_where_there_is_none(result):
    assert wording.epsilon_line({**result, "dp": "off"}).startswith("no privacy")
    assert wording.epsilon_line({**result, "epsilon": None}).startswith("no privacy can be claimed")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, (0.5, 0.5, 0.5)),
        ({"mean": 0.5}, (0.5, 0.5, 0.5)),
        ({"mean": 0.5, "low": 0.4, "high": 0.6}, (0.5, 0.4, 0.6)),
        ({"recall_capped@20": {"mean": 0.5, "low": 0.4, "high": 0.6}}, (0.5, 0.4, 0.6)),
        (None, None),
        ({}, None),
        (True, None),
        (float("nan"), None),
        ("0.5", None),
    ],
)
def test_a_point_is_read_in_every_shape(value, expected):
    assert wording.point(value) == expected


def test_every_event_is_logged_and_flushed_at_once(tmp_path):
    path = tmp_path / "events.jsonl"
    with Progress(path, console=screen()) as progress:
        for count, event in enumerate(EVENTS, start=1):
            progress(event)
            lines = path.read_text(encoding="utf-8").splitlines()
            assert len(lines) == count
            assert json.loads(lines[-1]).items() >= event.items()
            assert "at" in json.loads(lines[-1])


def test_a_pipe_gets_plain_lines():
    console = screen()
    with Progress(console=console) as progress:
        for event in EVENTS:
            progress(event)
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "prepared ml-latest-small · 537 users · 9,066 items · 80,412 interactions",
        "ε with δ = 1e-5, unit: user, adjacency: zero-out, accountant: closed",
        "mean rank: where held-out items stand in the catalogue; 0 is the top, 0.5 chance",
        "round 1 of 2 (popularity) · ε 1.507 spent · validation recall_capped@20 0.196 · 0.4 s",
        "round 2 of 2 · ε 5 spent · validation recall_capped@20 0.242 · mean rank 0.251 · 0.7 s",
        "baseline item-kNN · recall_capped@20 0.380",
        "done · 14.8 s",
    ]


STEP = {"event": "step", "step": "reading", "of": 3000, "unit": "rows", "seconds": 0.0, "over": False}


def test_a_step_is_a_bar_on_a_terminal_and_ends_with_it():
    console = screen(terminal=True)
    threads = threading.active_count()
    with Progress(console=console) as progress:
        for done in (0, 1500):
            progress({**STEP, "done": done})
            time.sleep(0.15)
        progress({**STEP, "done": 3000, "over": True})
        progress(EVENTS[0])
        time.sleep(0.15)
        progress(EVENTS[-1])
        assert settles_at(threads)
    text = console.file.getvalue()
    assert "reading" in text
    assert "50%" in text
    assert "━" in text
    assert text.rindex("round 1 (popularity)") > text.rindex("reading")


def test_a_pipe_gets_a_line_of_a_long_step_and_none_of_a_short_one():
    console = screen()
    with Progress(console=console, every=0.05) as progress:
        progress({**STEP, "step": "short", "done": 0})
        progress({**STEP, "step": "short", "done": 3000, "over": True})
        progress({**STEP, "done": 0})
        time.sleep(0.06)
        progress({**STEP, "done": 1000, "seconds": 10.0})
        progress({**STEP, "done": 1100, "seconds": 10.0})
        progress({**STEP, "done": 3000, "over": True})
    assert console.file.getvalue().splitlines() == ["reading 1,000 of 3,000 rows, 33 %, about 20 s left"]


def logged(path: Path) -> list[Any]:
    """The events of a log; a line that was cut short is none."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def test_only_the_end_of_a_step_is_logged(tmp_path):
    with Progress(tmp_path / "events.jsonl", quiet=True) as progress:
        for done, over in ((0, False), (1000, False), (3000, True)):
            progress({**STEP, "done": done, "over": over})
    [event] = logged(tmp_path / "events.jsonl")
    assert (event["done"], event["over"]) == (3000, True)


@pytest.mark.parametrize(
    ("event", "seconds", "text"),
    [
        ({"done": 1000}, 10.0, "reading 1,000 of 3,000 rows, 33 %, about 20 s left"),
        ({"done": 10}, 10.0, "reading 10 of 3,000 rows, 0 %, about 50 min left"),
        ({"done": 1}, 10.0, "reading 1 of 3,000 rows, 0 %, about 8.3 h left"),
        ({"done": 0}, 10.0, "reading, 10 s"),
        ({"done": 12, "of": None}, 300.0, "reading 12 rows, 5 min"),
        ({"done": 12, "of": None, "unit": "", "step": "a\x1bb"}, 1.0, "a\N{REPLACEMENT CHARACTER}b 12, 1 s"),
    ],
)
def test_a_step_says_how_far_it_is_and_how_long_it_will_take(event, seconds, text):
    assert said({**STEP, **event, "seconds": seconds}) == text


def test_the_spinner_ends_with_an_error_too():
    threads = threading.active_count()

    def interrupted():
        with Progress(console=screen(terminal=True)) as progress:
            progress(EVENTS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert settles_at(threads)


def test_quiet_logs_only(tmp_path):
    console = screen()
    with Progress(tmp_path / "events.jsonl", console=console, quiet=True) as progress:
        progress(EVENTS[0])
    assert console.file.getvalue() == ""
    assert (tmp_path / "events.jsonl").stat().st_size > 0


def test_names_from_data_cannot_steer_the_terminal():
    console = screen(terminal=True)
    with Progress(console=console) as progress:
        progress({"event": "prepared", "name": "\x1b[2J[red]evil[/red]\nround 9"})
    text = console.file.getvalue()
    assert "\x1b[2J" not in text
    assert "[red]evil[/red]�round 9" in text


def test_a_half_line_of_a_killed_run_stays_apart(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "prepared"}\n{"event": "rou', encoding="utf-8")
    with Progress(path, console=screen(), quiet=True) as progress:
        progress({"event": "done"})
    assert [event["event"] for event in logged(path)] == ["prepared", "done"]


def test_numbers_of_numpy_are_logged_as_numbers(tmp_path):
    with Progress(tmp_path / "events.jsonl", quiet=True) as progress:
        progress({"event": "round", "mean_rank": np.float32(0.5), "round": np.int64(2), "where": Path("x")})
    [event] = logged(tmp_path / "events.jsonl")
    assert (event["mean_rank"], event["round"], event["where"]) == (0.5, 2, "x")


def test_the_table_ranks_models_and_ends_with_eps_and_the_report(result):
    console = screen(width=80)
    print_result(console, result, report=Path("runs/demo/report.html"))
    text = console.file.getvalue()
    lines = text.splitlines()
    order = [line.split("  ")[0].strip() for line in lines[1:8]]
    assert order == ["EASE", "iALS", "Palate", "item-kNN", "popularity", "noised popularity", "device-only"]
    assert "0.341" in lines[3]
    assert "0.326 – 0.359" in lines[3]
    assert wording.epsilon_line(result) in " ".join(text.split())
    assert "warning: A warning of this run." in text
    assert "report: runs/demo/report.html" in text


@pytest.mark.parametrize("suffix", ["", "[99 negatives]"])
def test_the_table_fits_80_columns_and_names_what_was_measured(result, suffix):
    for model in (result["metrics"], *result["baselines"].values()):
        for metric in [*model]:
            model[f"{metric}{suffix}"] = model.pop(metric)
    text = shown(result_table({**result, "metric": f"recall_capped@20{suffix}"}), width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "recall_capped@20" in text.splitlines()[0]
    assert text.count("[99 negatives]") == (2 if suffix else 0)
    assert "ε = 5 (δ = 1e-5, unit: user, adjacency: zero-out,\n       accountant: palate closed form" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [({"dp": "off"}, "NO PRIVACY: dp off"), ({"noise": "seeded"}, "NOT FOR RELEASE: seeded noise")],
)
def test_the_table_is_stamped(result, change, words):
    assert words in shown(result_table({**result, **change}))
    assert words not in shown(result_table(result))
