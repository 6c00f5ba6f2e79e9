"""The benchmark scripts: each runs on tiny made logs and leaves every figure that its tables are made of.

One of them runs here, for what they share, and the others in `make soak`: they are no part of what is installed.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.web import browsers
from palate_common.algorithms import PublicFacts, make_algorithm
from palate_core.errors import PalateError
from palate_sim.engines.processes import running

FOLDER = Path(__file__).parents[2] / "simulations" / "benchmarks"
LOGS = ("ml-1m", "ml-100k", "online-retail", "movietweetings-100k", "deskdrop")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny log under each name: 60 users, 40 items, two tastes, ratings, kinds and times."""
    home, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{item}", int(rng.integers(1, 6)), str(rng.choice(["VIEW", "LIKE"])), 10_000 * int(time))
        for user in range(60)
        for time, item in enumerate(rng.permutation(20)[:15] + 20 * (user % 2))
    ]
    # One log has items enough to sample 99 that a user doesn't have.
    rare = [(f"u{user}", f"rare {user} {number}", 3, "VIEW", 0) for user in range(60) for number in range(2)]
    for name in LOGS:
        (home / name).mkdir()
        frame = pd.DataFrame(
            rows + rare * (name == "ml-100k"), columns=["user", "item", "rating", "event", "timestamp"]
        )
        frame.to_csv(home / name / "interactions.csv.gz", index=False)
    return home


def records(folder: Path) -> dict[str, Any]:
    """Part -> its record."""
    lines = (folder / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    return {each["part"]: each for each in map(json.loads, lines)}


def bench(name: str, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one script."""
    call = [sys.executable, str(FOLDER / name / "run.py"), "--out", str(out), *options]
    inherited = {key: value for key, value in os.environ.items() if key not in ("PALATE_BENCH_DATA", "PFL_PYTHON")}
    parts = (FOLDER.parents[1] / part for part in ("common", "client", "server", "simulations"))
    settings = {"PYTHONPATH": os.pathsep.join(map(str, parts)), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(call, env=inherited | settings | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("questions", "ask"),
        *(
            pytest.param(*each, marks=pytest.mark.soak)
            for each in (
                ("quality", "main"),
                ("protocols", "ml-100k"),
                ("attacks", "ml-1m"),
                ("download", "int8"),
            )
        ),
    ],
)
def test_a_script_leaves_tables_and_figures(name: str, part: str, logs: Path, tmp_path: Path) -> None:
    done = bench(name, tmp_path, "--data", str(logs), "--seeds", "1", "--parts", part)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["figures.jsonl"]
    found = records(tmp_path)
    assert list(found) == [part]
    assert found[part]["figures"]
    assert found[part]["measured"]["command"].endswith(f"{name}/run.py --parts {part} --seeds 1")
    assert done.stdout.startswith("### ")
    assert not re.search(r"\bnan\b", done.stdout)
    assert str(logs) not in done.stdout + json.dumps(found)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "part", "folder"), [("domains", "cross", "ml-1m")])
def test_a_script_that_needs_titles_and_genres(name: str, part: str, folder: str, logs: Path, tmp_path: Path) -> None:
    home, genres = tmp_path / "logs", ("Drama|War", "Comedy", "Drama", "Comedy|War")
    shutil.copytree(logs / folder, home / folder)
    log = pd.read_csv(home / folder / "interactions.csv.gz", dtype="str")
    films = [f"{item}::{['red', 'blue', 'green'][n % 3]} film {n % 7} (1990)::{genres[n % 4]}"
             for n, item in enumerate(sorted(set(log["item"])))]  # fmt: skip
    (home / folder / "movies.dat").write_text("\n".join(films) + "\n")
    refused = bench(name, tmp_path / "out", "--data", str(logs), "--seeds", "1", "--parts", part)
    assert refused.returncode == 1
    assert re.search(r"\Abenchmark: [^\n]*genres[^\n]*\n\Z", refused.stderr)
    done = bench(name, tmp_path / "out", "--data", str(home), "--seeds", "1", "--parts", part)
    assert done.returncode == 0, done.stderr
    assert part in records(tmp_path / "out")
    assert done.stdout.count("### ") == 2


@pytest.mark.soak
def test_the_cost_of_a_whole_command_is_counted(scripts: Path, tmp_path: Path) -> None:
    write = runpy.run_path(str(scripts / "worlds" / "long_log.py"))["write"]
    rows = write(tmp_path / "a30k.parquet", users=500, items=300, mean=20)
    done = bench("scale", tmp_path / "out", "--data", str(tmp_path), "--parts", "30k")
    assert done.returncode == 0, done.stderr
    figures = records(tmp_path / "out")["30k"]["figures"]
    assert figures["log"]["rows"] == rows
    [run] = figures["runs"]
    assert run["train_users"] == 400
    assert 0 < run["anonymous"] <= run["together"]
    assert run["kept"]["run"] <= run["disk"]
    assert list(run["quality"]) == ["palate", "popularity", "ials"]


def test_two_runs_of_a_script_at_once_lose_no_record(scripts: Path, tmp_path: Path) -> None:
    sheet = runpy.run_path(str(scripts / "sheet.py"))["Sheet"]
    first, second = sheet(tmp_path), sheet(tmp_path)
    for each, part in ((first, "kills"), (second, "soak"), (first, "cost")):
        each.record(part, [1.5], facts={})
        each.write(("cost", "kills", "soak"))
    assert list(records(tmp_path)) == list(sheet(tmp_path).parts) == ["cost", "kills", "soak"]


SILENT = """
import { spawn } from "node:child_process";
const browser = spawn("sleep", ["1000"], { detached: true, stdio: "ignore" });
console.log(JSON.stringify([String(browser.pid)]));
process.stdin.resume();
"""


def test_browsers_that_never_answer_are_ended_with_all_that_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "test" / "whole").mkdir(parents=True)
    (tmp_path / "test" / "whole" / "silent.mjs").write_text(SILENT)
    monkeypatch.setattr(browsers, "WEB", tmp_path)
    with browsers.Browsers("silent.mjs") as silent:
        started = int(silent.pages[0])
        assert started in running()
        with pytest.raises(PalateError, match=r"they have ended; they had 0\.2 s"):
            silent.ask("sync", within=0.2)
    while started in running():  # it was told to end, and the system takes its time
        time.sleep(0.01)


HOLDS = """
import os, runpy, sys
import numpy as np
memory_of = runpy.run_path(sys.argv[1])["memory_of"]
before, held = memory_of(os.getpid()), np.ones(1 << 24)
after = memory_of(os.getpid())
print(held.nbytes, *(later - earlier for earlier, later in zip(before, after)))
"""


def test_memory_and_disk_are_those_that_the_system_counts(scripts: Path, tmp_path: Path) -> None:
    """In a process of its own: one that has done much takes an array from what it holds already."""
    script = scripts / "scale" / "run.py"
    environment = {**os.environ, "PYTHONPATH": str(scripts.parent)}
    command = [sys.executable, "-c", HOLDS, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held, whole, own = map(int, done.stdout.split())
    assert whole > 0.9 * held
    assert own > 0.9 * held
    scale = runpy.run_path(str(script))
    assert os.getpid() in scale["tree"](os.getpid())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(os.urandom(1 << 20))
    assert scale["disk_of"](tmp_path) >= 1 << 20
    assert scale["memory_of"](0) == (0, 0)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the scripts import each other from."""
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    return FOLDER


def test_a_record_keeps_nine_digits_and_what_json_has(scripts: Path, tmp_path: Path) -> None:
    sheet = runpy.run_path(str(scripts / "sheet.py"))
    made = sheet["Sheet"](tmp_path)
    made.record("b", {"share": np.float64(2 / 3), 5.0: (1, None, True, "x")}, facts={"seeds": "0 to 1"})
    made.record("a", [12345678901], facts={})
    made.write(("a", "b"))
    found = records(tmp_path)
    assert list(found) == ["a", "b"]
    assert found["a"]["figures"] == [12345678901]
    assert found["b"]["figures"] == {"share": 0.666666667, "5.0": [1, None, True, "x"]}
    assert {"date", "hardware", "python", "seeds"} == set(found["b"]["measured"])
    again = sheet["Sheet"](tmp_path)
    again.record("a", [2], facts={})
    again.write(("a", "b"))
    assert records(tmp_path)["b"] == found["b"]


def test_every_record_is_of_a_part_and_no_part_is_recorded_twice(scripts: Path) -> None:
    files = sorted(FOLDER.glob("*/figures.jsonl"))
    assert len(files) > 25
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        parts = runpy.run_path(str(file.with_name("run.py")))["PARTS"]
        assert [json.loads(line)["part"] for line in lines] == [part for part in parts if part in records(file.parent)]
        assert all({"date", "command"} <= set(each["measured"]) for each in records(file.parent).values())


@pytest.mark.soak
def test_killed_devices_keep_their_promises(tmp_path: Path) -> None:
    done = bench("durability", tmp_path, "--parts", "kills,kills-beside", "--seeds", "20")
    assert done.returncode == 0, done.stderr
    results = records(tmp_path)
    figures = results["kills"]["figures"]
    assert figures["kills"] == dict.fromkeys(("track", "feedback", "update_model", "contribute", "erase"), 4)
    assert figures["acknowledged"]["track"] > 100
    assert figures["wrong"] == []
    assert results["kills-beside"]["figures"]["kills"] == dict.fromkeys(("batch", "import", "retention"), 5)


@pytest.mark.soak
def test_secure_aggregation_beside_its_floor(tmp_path: Path) -> None:
    done = bench("secagg", tmp_path, "--parts", "small")
    assert done.returncode == 0, done.stderr
    [cost] = records(tmp_path)["small"]["figures"]
    assert cost["exact"]
    assert cost["survivors"] == 54
    assert cost["upload"] > cost["packed"]
    for side in (cost["server"], cost["device"]):
        assert sum(side["taken"].values()) > sum(side["floor"].values()) > 0


@pytest.mark.soak
def test_explanations_hold(tmp_path: Path) -> None:
    done = bench("ranking", tmp_path, "--data", str(tmp_path), "--parts", "explain,memory")
    assert done.returncode == 0, done.stderr
    results = records(tmp_path)
    for figure in results["explain"]["figures"]:
        assert figure["largest_error"] < 1e-6
        assert figure["lower"] > 0.95
    assert all(figure["mebibytes"] < 160 for figure in results["memory"]["figures"])


@pytest.mark.parametrize(
    "name",
    ["quality", *(pytest.param(n, marks=pytest.mark.soak) for n in ("presets", "questions"))],
)
def test_a_script_without_data_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    done = bench(name, tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"benchmark: `--data`.*\n", done.stderr)


def test_committed_records_name_no_machine() -> None:
    texts = [path.read_text() for kind in ("*/figures.jsonl", "*/*.md") for path in FOLDER.glob(kind)]
    assert texts
    assert not [text for text in texts if re.search(r"(?<![\w.])/(work|tmp|home|root|Users)/", text)]


def test_the_bars_of_durability_and_downloads_are_met_by_what_was_measured() -> None:
    """What the repository shows, by its own figures."""
    durability = records(FOLDER / "durability")
    five = durability["kills"]["figures"]
    assert five["kills"] == dict.fromkeys(("track", "feedback", "update_model", "contribute", "erase"), 60)
    assert min(five["midway"].values()) > 40
    assert five["wrong"] == durability["kills-beside"]["figures"]["wrong"] == []
    power = durability["power"]["figures"]
    assert power["cuts"]["wrong"] == []
    assert sum(power["cuts"]["judged"].values()) >= 1000
    assert all(found["wrong"] for name, found in power.items() if name.startswith("control"))
    copies = records(FOLDER / "download")["int8"]["figures"]
    for set_, epsilon in {(each["set"], each["epsilon"]) for each in copies}:
        own = [each for each in copies if (each["set"], each["epsilon"]) == (set_, epsilon)]
        assert len(own) >= 10
        assert min(each["whole"] / each["compact"] for each in own) >= 3.9
        for metric in ("recall_capped@20", "ndcg@20"):
            assert np.mean([1 - each["int8"][metric] / each["float"][metric] for each in own]) <= 0.005


def test_the_defaults_for_ratings_are_those_that_validation_chose_and_the_bars_are_met() -> None:
    """What the repository shows, by its own figures."""
    parts = records(FOLDER / "sgd")
    for case, mu in (("no DP", None), ("eps 5", 1.2), ("eps 5, features", 1.2)):
        facts = PublicFacts(n_users=10_000, n_items=5_000, mu=mu)
        plain, chosen = (
            vars(make_algorithm("sgd", {"loss": "ratings"} | settings, facts))
            for settings in ({}, parts["tune"]["figures"]["chosen"][case])
        )
        features = case.endswith("features")
        for name in ("later", "size", "exponent", "loss"):
            assert plain[name] == chosen[name]
        left, right = (asdict(each["filled"]) for each in (plain, chosen))
        assert {k: v for k, v in left.items() if features or k != "feature_scale"}.items() <= right.items()
    figures = {name: np.mean(values) for name, values in parts["ratings"]["figures"].items()}
    assert figures["100K, 5 folds, no DP"] <= 0.915
    assert figures["1M, 90-10, no DP"] <= 0.850
    assert figures["1M, 90-10, eps 5, with genres and decades"] <= 0.90


def test_what_a_frontier_says_of_its_projection_is_what_was_measured(scripts: Path) -> None:
    """What the repository shows, by its own figures."""
    run = runpy.run_path(str(scripts / "population" / "run.py"))
    parts = records(FOLDER / "population")
    assert list(parts) == list(run["PARTS"])
    root = {}
    for name in ("million", "ml-1m", "movietweetings-100k"):
        off = np.array([(a / own - 1, b / own - 1) for own, a, b in run["projected"](parts[name]["figures"]).values()])
        root[name] = np.sqrt((off**2).mean(axis=0))
        assert np.abs(off[:, 1]).max() < 0.13
        assert root[name][1] < 0.7 * root[name][0]
    assert 0.005 < min(each[1] for each in root.values()) < max(each[1] for each in root.values()) < 0.055
    pairs = parts["production"]["figures"]["pairs"]
    assert np.mean([pair["run"] for pair in pairs]) == pytest.approx(
        np.mean([pair["rehearsal"] for pair in pairs]), rel=0.02
    )


def test_the_clock_types_what_the_readme_says_and_knows_a_personal_title(scripts: Path) -> None:
    clock = runpy.run_path(str(scripts / "first_quarter" / "run.py"))
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert clock["commands"](readme) == ("make demo", '.venv/bin/palate recommend "Alien (1979)" "Blade Runner" Fargo')
    assert len(clock["PERSONAL"].findall(readme)) == 3
    assert not clock["PERSONAL"].findall("  American Beauty (1999) ✓  popular with others\n")
    assert clock["spent"](os.getpid()) > 0
