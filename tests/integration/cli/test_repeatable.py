"""The same seed: equal to the byte where noise is seeded or off, never where it is secure; and what is stamped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from palate_common.records.key_file import load_key
from palate_server.ledger.extract import verify_extract
from palate_sim.config import load_config, preset_names
from palate_sim.run.result import Result

LEARNING = ("--set", "algorithm.settings.popularity_only_below=0")
LISTS = ("recommendations.csv.gz", "split/train.csv.gz", "split/foldin.csv.gz", "split/test.csv.gz")
FIGURES = ("metrics", "baselines", "by_part", "by_group", "projection", "split", "bytes_per_client", "rounds")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path
    out: str

    def read(self, name: str) -> Any:
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @property
    def model(self) -> bytes:
        return (self.path / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, palate: Any, rows: Any, as_csv: Any) -> Any:
    """`twice("--noise", "seeded")`: two runs with the same options, made once."""
    made: dict[tuple[str, ...], tuple[Run, Run]] = {}

    def pair(*options: str) -> tuple[Run, Run]:
        if options not in made:
            folder = tmp_path_factory.mktemp("twice") / "work"
            folder.mkdir()
            (folder / "log.csv").write_text(as_csv(rows))
            runs = []
            for name in ("first", "second"):
                fixed = ("--out", name, "--save-recommendations", "--seed", "7", *LEARNING)
                done = palate("simulate", "log.csv", *fixed, *options, cwd=folder)
                assert done.code == 0, done.err
                runs.append(Run(folder / name, done.out))
            made[options] = (runs[0], runs[1])
        return made[options]

    return pair


REPEATABLE = [("--noise", "seeded"), ("--dp", "off")]


@pytest.mark.parametrize("options", REPEATABLE)
def test_the_same_seed_gives_the_same_bytes(twice: Any, options: tuple[str, ...]) -> None:
    first, second = twice(*options)
    assert first.model == second.model
    for name in LISTS:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    one, other = first.read("result.json"), second.read("result.json")
    for name in FIGURES:
        assert one[name] == other[name]
    for name in ("epsilon", "mean_rank", one["metric"], "users"):
        assert [point[name] for point in one["curve"]] == [point[name] for point in other["curve"]]
    assert one["run"] != other["run"]


def test_secure_noise_is_another_in_every_run_whatever_the_seed(twice: Any) -> None:
    first, second = twice()
    assert first.model != second.model
    assert (first.path / LISTS[0]).read_bytes() != (second.path / LISTS[0]).read_bytes()
    assert [(first.path / name).read_bytes() for name in LISTS[1:]] == [
        (second.path / name).read_bytes() for name in LISTS[1:]
    ]


def test_noise_is_secure_unless_another_is_asked_for_by_name() -> None:
    assert load_config(None).privacy.noise == "secure"
    assert {load_config(name).privacy.noise for name in preset_names()} == {"secure"}
    assert {load_config(name, {"seed": 5}).privacy.noise for name in preset_names()} == {"secure"}


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--noise", "seeded"), "NOT FOR RELEASE: seeded noise"), (("--dp", "off"), "NO PRIVACY: dp off")],
)
def test_what_may_not_be_released_says_so_everywhere(twice: Any, options: tuple[str, ...], words: str) -> None:
    for run in twice(*options):
        assert words in run.out
        assert run.read("privacy_card.json")["stamp"] == words
        assert run.read("privacy_card.json")["guarantee"].startswith("None")
        assert words in (run.path / "report.html").read_text(encoding="utf-8")
        result = run.read("result.json")
        assert {"seeded": result["noise"], "off": result["dp"]}[options[1]] == options[1]
        manifest = run.read("model/manifest.json")
        assert manifest["for_release"] is False
        assert options[1] in (manifest["dp"], manifest["noise"])
        extract = verify_extract((run.path / "ledger.json").read_bytes(), load_key(run.path / "key").public)
        opened = next(entry for entry in extract.entries if entry.kind == "open")
        assert options[1] in (opened.facts["dp"], opened.facts["noise"])
        assert "NOT FOR RELEASE" in repr(Result.read(run.path)) or "no privacy" in repr(Result.read(run.path))


def test_a_release_with_secure_noise_says_that_it_was_simulated(twice: Any) -> None:
    for run in twice():
        assert "NOT FOR RELEASE" not in run.out
        assert "NO PRIVACY" not in run.out
        card = run.read("privacy_card.json")
        assert card["stamp"] == "SIMULATED: masks off"
        assert card["guarantee"].startswith("For every training installation")
        assert run.read("model/manifest.json")["for_release"] is True


def test_dp_off_claims_nothing(twice: Any) -> None:
    run, _ = twice("--dp", "off")
    card, result = run.read("privacy_card.json"), run.read("result.json")
    assert (card["epsilon"], card["mu"], card["implied_risk"], card["releases"]) == (None, None, None, [])
    assert (card["epsilon_requested"], card["delta_curve"], card["second_accountant"]) == (None, [], None)
    assert (result["epsilon"], result["epsilon_requested"]) == (None, None)
    assert "noised_popularity" not in result["baselines"]
    assert "ε =" not in run.out
