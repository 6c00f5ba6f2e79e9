"""Input that can't be meant: one line on stderr, the right exit code, and nothing anywhere has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LONG = "x" * 300

FILES: dict[str, bytes] = {
    "empty.csv": b"",
    "header.csv": b"user,item,rating\n",
    "no-ids.csv": b"user,item\n,1\n,2\nnan,3\n",
    "two-users.csv": b"user,item\n1,2\n1,3\n2,3\n2,4\n",
    "one-each.csv": b"user,item\n1,2\n2,3\n3,4\n4,1\n",
    "broken.toml": b"[privacy\nepsilon = 5\n",
    "latin.toml": b"# caf\xe9\nseed = 1\n",
    "key.toml": b"[privacy]\nepsilom = 3\n",
    "section.toml": b"privacy = 5\n",
    "top.toml": b"epsilon = 5\n",
    "deep.toml": b"[privacy.epsilon]\nvalue = 5\n",
    "not-a-ledger.db": b"just text",
    "foreign/keep.txt": b"mine",
    "half/run.json": b"{}",
    "strange/run.json": b"[1, 2]",
    "torn/run.json": b'{"config": ',
    "empty-folder.csv/.keep": b"",
    "caf\udce9.csv": b"user,item\n1,2\n",
}


@pytest.fixture(scope="session")
def zoo(
    tmp_path_factory: pytest.TempPathFactory, palate: Any, rows: Any, as_csv: Callable[..., str], quick: Any
) -> Path:
    """A folder with every malformed file, a finished run, and ledgers of this and of another population."""
    made = tmp_path_factory.mktemp("zoo") / "work"
    for name, data in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    (made / "log.csv").write_text(as_csv(rows))
    (made / "timeless.csv").write_text(as_csv((row[:2] for row in rows), "user,item"))
    (made / "still.csv").write_text(as_csv((*row[:3], 7) for row in rows))
    done = palate("simulate", "log.csv", "--out", "finished", "--ledger", "used.db", *quick, cwd=made)
    assert done.code == 0, done.err
    other = ("--set", "privacy.population=others", "--set", "privacy.lifetime_epsilon=6")
    done = palate("simulate", "log.csv", "--out", "others", "--ledger", "others.db", *other, *quick, cwd=made)
    assert done.code == 0, done.err
    shutil.copy(made / "used.db", made / "damaged.db")
    with (made / "damaged.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    return made


def tree(folder: Path) -> dict[str, Any]:
    """Every path below a folder with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


DATA = {
    "empty": ("empty.csv", "`data` must hold a header and rows, got an empty file"),
    "no users left": ("no-ids.csv", "must hold a row with a user and an item, got none among 3 rows"),
    "too few users for the split": ("two-users.csv", "`split` strong must have 3 users or more, got 2"),
    "users with one event only": ("one-each.csv", "`split` strong must have a user to test on"),
    "a folder of no known layout": ("empty-folder.csv", "`data` must be a folder with one of"),
    "a file that isn't there": ("nowhere.csv", "`data` must be an existing file, got 'nowhere.csv'"),
    "a name that no file can have": (f"{LONG}.csv", "`data` must be a readable file"),
    "an unknown preset or set": (
        "nonsense",
        "the argument must be a preset (chien2021, liang2018, movies,",
    ),
    "no name": ("", "the argument must be a preset"),
}


@pytest.mark.parametrize("case", DATA)
def test_a_log_that_is_none(palate: Any, zoo: Path, case: str) -> None:
    name, message = DATA[case]
    refused(palate, zoo, [name, "--out", "new"], message)


OPTIONS: dict[str, tuple[list[str], str]] = {
    "epsilon 0": (["--epsilon", "0"], "`privacy.epsilon` must be greater than 0, got 0.0"),
    "epsilon negative": (["--epsilon", "-1"], "`privacy.epsilon` must be greater than 0"),
    "epsilon nan": (["--epsilon", "nan"], "`privacy.epsilon` must be a finite number, got nan"),
    "epsilon inf": (["--epsilon", "inf"], "`privacy.epsilon` must be a finite number, got inf"),
    "epsilon in words": (["--epsilon", "five"], "'five' is not a valid float"),
    "epsilon too small for the grid": (["--epsilon", "1e-12"], "`privacy.epsilon` must be larger"),
    "epsilon beyond all use": (["--epsilon", "1e9"], "`privacy.epsilon` must be less than or equal to 1000000"),
    "epsilon true": (sets("privacy.epsilon=true"), "`privacy.epsilon` must be a number, got True"),
    "epsilon nan by --set": (sets("privacy.epsilon=nan"), "`privacy.epsilon` must be a finite number, got nan"),
    "delta 0": (["--delta", "0"], "`privacy.delta` must be greater than 0"),
    "delta 1": (["--delta", "1"], "`privacy.delta` must be less than 1"),
    "delta nan": (["--delta", "nan"], "`privacy.delta` must be a finite number, got nan"),
    "delta negative": (["--delta", "-1e-5"], "`privacy.delta` must be greater than 0"),
    "no rounds": (["--rounds", "0"], "`algorithm.settings.rounds` must be greater than or equal to 1, got 0"),
    "half a round": (["--rounds", "1.5"], "'1.5' is not a valid integer"),
    "more rounds than the budget buys": (["--rounds", "64"], "`privacy.epsilon` must be larger for 64 round(s)"),
    "rounds of an algorithm without": (["--algorithm", "popularity", "--rounds", "2"], "of the algorithm popularity"),
    "unknown split": (["--split", "thirds"], "`split` must be one of strong,"),
    "no split": (["--split", ""], "`split` must be one of strong,"),
    "a split by times that aren't there": (["--data", "timeless.csv", "--split", "temporal"], "a log with times"),
    "a split by times that stand still": (["--data", "still.csv", "--split", "temporal"], "can be cut at 80 %"),
    "a catalogue too small for negatives": (["--split", "loo-heldout-excluded"], "must have 99 items that a user"),
    "unknown algorithm": (["--algorithm", "magic"], "`algorithm` must be one of als,"),
    "unknown dp mode": (
        ["--dp", "sometimes"],
        "`privacy.dp` must be 'distributed', 'local', 'central' or 'off', got 'sometimes'",
    ),
    "unknown noise": (["--noise", "loud"], "`privacy.noise` must be 'secure' or 'seeded', got 'loud'"),
    "unknown engine": (["--engine", "steam"], "`engine.name` must be 'local', 'flower' or 'ray', got 'steam'"),
    "unknown baseline": (sets("evaluation.baselines=oracle"), "`evaluation.baselines` must be among popularity,"),
    "unknown option": (["--epsilo", "5"], "No such option '--epsilo'"),
    "unknown key": (sets("epsilon=3"), "`epsilon` is not a setting of Palate, got 3; did you mean `privacy.epsilon`?"),
    "unknown key of a section": (sets("privacy.epsilom=3"), "did you mean `privacy.epsilon`?"),
    "unknown key of the algorithm": (sets("algorithm.settings.round=3"), "`algorithm.settings.rounds`?"),
    "--set without =": (sets("privacy.epsilon"), "`--set` must be key=value, got 'privacy.epsilon'"),
    "--set without a key": (sets("=5"), "`--set` must be key=value, got '=5'"),
    "--set of a section": (sets("privacy=5"), "`privacy` must be a table of settings, got 5"),
    "--set below a value": (sets("privacy.epsilon.x=5"), "`privacy.epsilon` must be a valid number"),
    "seed negative": (["--seed", "-1"], "`seed` must be greater than or equal to 0"),
    "seed too large": (["--seed", str(2**32)], "`seed` must be less than 4294967296"),
    "list length 0": (sets("evaluation.ks=0"), "`evaluation.ks.0` must be greater than or equal to 1"),
    "no list length": (sets("evaluation.ks=[]"), "`evaluation.ks` must have at least one entry"),
    "projection to nobody": (sets("evaluation.projection=0"), "must be greater than or equal to 1"),
    "a cohort nobody can fill": (sets("privacy.cohort_floor=1000"), "must be at most the 240 training users, got 1000"),
    "a floor that its cohort needn't reach": (
        sets("privacy.dp=distributed", "privacy.dropout=0.25", "privacy.cohort_floor=181"),
        "must be at most the 180 devices whose sum is released after dropout, got 181",
    ),
    "a threshold above all": (sets("positives.threshold=99"), "`positives` must leave a positive interaction"),
    "a core that is empty": (sets("filters.user_core=1000"), "`filters` must leave a 1000-0 core"),
    "a column that isn't there": (sets("data.columns.user_id=who"), "'who': no such column"),
    "a column Palate doesn't know": (sets("data.columns.colour=item"), "got 'colour'"),
    "weights that are negative": (sets("data.weights={view=-1}"), "`weights` must be finite and not negative"),
    "a cap without end": (sets("positives.cap=inf"), "`positives.cap` must be a finite number"),
    "a population without a name": (sets("privacy.population="), "`privacy.population` must not be empty"),
    "a population of a long name": (sets(f"privacy.population={LONG}"), "must have at most 200 characters"),
    "a log given twice": (["--data", "still.csv", "log.csv"], "the log must be given once"),
    "no data": (["--data", ""], "`--data` must be a name or a path"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_is_none(palate: Any, zoo: Path, case: str) -> None:
    options, message = OPTIONS[case]
    log = [] if "--data" in options else ["log.csv"]
    refused(palate, zoo, [*log, *options, "--out", "new"], message)


CONFIGURATIONS = {
    "broken.toml": "must be TOML: Expected ']'",
    "latin.toml": "must be TOML: 'utf-8' codec can't decode",
    "key.toml": "`privacy.epsilom` is not a setting of Palate, got 3; did you mean `privacy.epsilon`?",
    "section.toml": "`privacy` must be a table of settings, got 5",
    "top.toml": "did you mean `privacy.epsilon`?",
    "deep.toml": "`privacy.epsilon` must be a valid number",
    "nowhere.toml": "the configuration must be a readable file, got nowhere.toml: No such file or directory",
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_that_is_none(palate: Any, zoo: Path, name: str) -> None:
    refused(palate, zoo, [name, "--data", "log.csv", "--out", "new"], CONFIGURATIONS[name])


PLACES: dict[str, tuple[list[str], str]] = {
    "out below a file": (["--out", "log.csv/run"], "`--out` must be writable, got 'log.csv/run': Not a directory"),
    "out that is a file": (["--out", "log.csv"], "`--out` must be a folder, got a file: log.csv"),
    "out that can't be made": (["--out", "/proc/palate/run"], "`--out` must be writable"),
    "out with a name too long": (["--out", LONG], "File name too long"),
    "out with a name too long in a new folder": (["--out", f"new/{LONG}"], "File name too long"),
    "out with other content": (["--out", "foreign"], "must be a new or empty folder, got one with other content"),
    "out here": (["--out", "."], "must be a new or empty folder"),
    "out of a finished run": (["--out", "finished"], "`--out` holds a run already; use --resume"),
    "ledger that is none": (["--out", "new", "--ledger", "not-a-ledger.db"], "must be a ledger file"),
    "ledger that is a log": (["--out", "new", "--ledger", "log.csv"], "must be a ledger file"),
    "ledger that is a folder": (["--out", "new", "--ledger", "foreign"], "got a folder"),
    "ledger in a folder that isn't there": (["--out", "new", "--ledger", "no/where.db"], "`--ledger` must be in a"),
    "ledger where nothing can be made": (["--out", "new", "--ledger", "/proc/ledger.db"], "`--ledger` must be in a"),
    "ledger in the run folder": (["--out", "new", "--ledger", "new/l.db"], "must lie outside the run folder"),
    "ledger of another population": (["--out", "new", "--ledger", "others.db"], "must be the ledger's, 'others'"),
    "devices' ledger": (["--out", "new", "--ledger", "finished/devices.db"], "another kind of database"),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_is_none(palate: Any, zoo: Path, case: str) -> None:
    options, message = PLACES[case]
    refused(palate, zoo, ["log.csv", *options], message)


def test_a_damaged_ledger(palate: Any, zoo: Path) -> None:
    refused(palate, zoo, ["log.csv", "--out", "new", "--ledger", "damaged.db"], "ledger", code=1)


RESUMING: dict[str, tuple[list[str], str]] = {
    "without a folder": (["--resume"], "`--resume` takes --out DIR and nothing else"),
    "with another option": (["--resume", "--out", "finished", "--epsilon", "3"], "takes --out DIR and nothing else"),
    "with --set": (["--resume", "--out", "finished", "--set", "seed=3"], "takes --out DIR and nothing else"),
    "with a log": (["log.csv", "--resume", "--out", "finished"], "takes --out DIR and nothing else"),
    "with a ledger": (["--resume", "--out", "finished", "--ledger", "used.db"], "takes --out DIR and nothing else"),
    "a folder that isn't there": (["--resume", "--out", "nowhere"], "needs a run folder with its run.json"),
    "a foreign folder": (["--resume", "--out", "foreign"], "needs a run folder with its run.json"),
    "a file": (["--resume", "--out", "log.csv"], "needs a run folder with its run.json"),
    "a run.json without facts": (["--resume", "--out", "half"], "needs a run folder with its run.json"),
    "a run.json that is no table": (["--resume", "--out", "strange"], "needs a run folder with its run.json"),
    "a run.json cut short": (["--resume", "--out", "torn"], "needs a run folder with its run.json"),
}


@pytest.mark.parametrize("case", RESUMING)
def test_a_run_that_is_none_to_resume(palate: Any, zoo: Path, case: str) -> None:
    options, message = RESUMING[case]
    refused(palate, zoo, options, message)


BUDGETS: dict[str, tuple[list[str], str]] = {
    "a budget below one run": (
        ["--out", "new", *sets("privacy.lifetime_epsilon=1")],
        "has a lifetime budget of epsilon 1 and has spent 0; with this run it would be 5",
    ),
    "a budget that earlier runs used": (
        ["--out", "new", "--ledger", "used.db", *sets("privacy.lifetime_epsilon=6")],
        "has a lifetime budget of epsilon 6 and has spent 5; with this run it would be 7.5",
    ),
    "a budget raised": (
        ["--out", "new", "--ledger", "others.db", *sets("privacy.population=others", "privacy.lifetime_epsilon=60")],
        "`privacy.lifetime_epsilon` must be at most 6",
    ),
    "a second run on a budget": (
        ["--out", "new", "--ledger", "others.db", *sets("privacy.population=others")],
        "has a lifetime budget of epsilon 6",
    ),
}


@pytest.mark.parametrize("case", BUDGETS)
def test_a_budget_that_does_not_pay(palate: Any, zoo: Path, case: str) -> None:
    options, message = BUDGETS[case]
    refused(palate, zoo, ["log.csv", *options], message, code=3)


@pytest.mark.parametrize(
    "options", [["caf\udce9.csv"], ["log.csv", "--out", "\udce9"], ["log.csv", "--ledger", "\udce9"]]
)
def test_a_path_that_is_no_text(palate: Any, zoo: Path, options: list[str]) -> None:
    refused(palate, zoo, options, "must be a path in UTF-8")


def test_the_installed_command_refuses_alike(zoo: Path) -> None:
    command = [Path(sys.executable).with_name("palate"), "simulate", "header.csv", "--out", "new"]
    done = subprocess.run(command, cwd=zoo, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "palate: `data` must hold rows, got only a header: 'header.csv'\n"


def refused(palate: Any, zoo: Path, options: list[str], message: str, *, code: int = 2) -> None:
    """One line, one code, and not a byte anywhere is another one."""
    before = tree(zoo)
    done = palate("simulate", *options, cwd=zoo)
    assert done.code == code, done.err
    assert done.out == ""
    assert len(done.lines) == 1, done.err
    assert done.err.startswith("palate: ")
    assert message in done.err
    assert len(done.err) < 400
    assert tree(zoo) == before
