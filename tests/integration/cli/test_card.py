"""The privacy card of a real run: made of the ledger alone, signed, tied to the model; eps never stands alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from palate_common.records.key_file import load_key
from palate_core.log.canonical import digest
from palate_sim.accounting import epsilon_closed
from palate_sim.run.result import Result

BY_NAME = {
    "central": ("--epsilon", "3.3333", "--set", "privacy.lifetime_epsilon=9"),
    "seeded": ("--noise", "seeded"),
    "off": ("--dp", "off"),
    "tiny": ("--epsilon", "0.0101", "--rounds", "1"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, palate: Any, rows: Any, as_csv: Any) -> dict[str, tuple[Path, str]]:
    """Finished runs by name, and what the command printed."""
    folder = tmp_path_factory.mktemp("cards") / "work"
    folder.mkdir()
    (folder / "log.csv").write_text(as_csv(rows))
    made = {}
    for name, options in BY_NAME.items():
        few = ("--set", "evaluation.baselines=popularity,noised_popularity", "--set", "privacy.population=" + name)
        learning = () if "--rounds" in options else ("--set", "algorithm.settings.popularity_only_below=0")
        done = palate("simulate", "log.csv", "--out", name, *options, *few, *learning, cwd=folder)
        assert done.code == 0, done.err
        made[name] = (folder / name, done.out)
    return made


@pytest.fixture(params=BY_NAME)
def run(runs: Any, request: pytest.FixtureRequest) -> Path:
    return Path(runs[request.param][0])


@pytest.fixture
def central(runs: Any) -> Path:
    return Path(runs["central"][0])


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def public_key(run: Path) -> str:
    return load_key(run / "key").public


def unsigned(card: Any) -> dict[str, Any]:
    return {name: value for name, value in card.items() if name not in ("public_key", "signature")}


def test_the_card_names_the_published_model(run: Path) -> None:
    card, manifest = read(run, "privacy_card.json"), read(run, "model/manifest.json")
    assert card["model_hash"] == digest((run / "model" / "model.safetensors").read_bytes()) == manifest["model_hash"]
    result = read(run, "result.json")
    assert (result["epsilon"], result["delta"]) == (card["epsilon"], card["delta"])
    assert result["run"] == card["run"] == manifest["run"]


@pytest.mark.parametrize("name", ["central", "seeded", "tiny"])
def test_the_claim_follows_from_the_listed_releases(runs: Any, name: str) -> None:
    card = read(Path(runs[name][0]), "privacy_card.json")
    multipliers = [(release["sigma"] ** 2 - 4) ** 0.5 / release["sensitivity"] for release in card["releases"]]
    closed = epsilon_closed(noise_multipliers=multipliers, delta=card["delta"] - card["delta_reserved"])
    assert card["epsilon"] == pytest.approx(closed, rel=1e-9)
    assert card["epsilon"] <= card["epsilon_requested"]
    assert card["epsilon"] == pytest.approx(card["epsilon_requested"], rel=1e-3)
    assert card["rounds"]["planned"] == card["rounds"]["released"] == len(card["releases"])
    assert dict(map(tuple, card["delta_curve"]))  # eps -> delta, falling
    deltas = [delta for _, delta in card["delta_curve"]]
    assert deltas == sorted(deltas, reverse=True)


@pytest.mark.parametrize("name", ["central", "seeded", "tiny"])
def test_a_second_accountant_agrees(runs: Any, name: str) -> None:
    card = read(Path(runs[name][0]), "privacy_card.json")
    assert card["second_accountant"]["name"] == "dp-accounting PLD"
    assert card["second_accountant"]["epsilon"] == pytest.approx(card["epsilon"], abs=1e-6)


def test_the_card_says_whom_it_protects_and_what_it_rests_on(central: Path) -> None:
    card = read(central, "privacy_card.json")
    assert (card["unit"], card["adjacency"], card["mode"]) == ("user: one installation", "zero-out", "distributed")
    for words in ("does not hold against the server", "operating system's random source", "AES-256", "D times mu"):
        assert words in card["guarantee"]
    assert card["implied_risk"]["tpr_at_fpr_0.01"] < 0.2
    assert card["mechanism"]["random_bits"] == ("AES-256-CTR, a fresh key from the operating system for each release")
    assert "not checkable" in card["witnesses"]


# Every eps that a person meets stands beside its delta, unit, adjacency and accountant.

EPSILON = re.compile(r"(?:ε|eps|epsilon) (?:=|of) ?[\d.]+")
BESIDE = ("δ|delta", "user|installation", "zero-out|emptied", "accountant")


def alone(text: str, reach: int = 400) -> list[str]:
    """The places where an eps is told without what must stand beside it."""
    found = []
    for match in EPSILON.finditer(text):
        near = text[max(0, match.start() - reach) : match.end() + reach]
        if "same δ, unit and adjacency" not in near and not all(re.search(words, near) for words in BESIDE):
            found.append(near)
    return found


@pytest.mark.parametrize("name", ["central", "seeded", "tiny"])
def test_an_epsilon_never_stands_alone(runs: Any, name: str) -> None:
    run, printed = runs[name]
    page = (run / "report.html").read_text(encoding="utf-8")
    shown = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    report = " ".join(re.sub(r"<[^>]*>", " ", shown).split())
    for text in (" ".join(printed.split()), report, repr(Result.read(run))):
        assert EPSILON.search(text)
        assert alone(text) == []
    card, result = read(run, "privacy_card.json"), read(run, "result.json")
    assert {"epsilon", "delta", "unit", "adjacency", "accountant"} <= set(card)
    assert {"epsilon", "delta", "unit", "adjacency", "accountant"} <= set(result)


def test_without_privacy_no_epsilon_is_told(runs: Any) -> None:
    run, printed = runs["off"]
    assert not EPSILON.search(printed)
    assert "no privacy: nothing was noised" in printed
    assert not EPSILON.search(repr(Result.read(run)))
    assert not EPSILON.search(json.dumps(unsigned(read(run, "privacy_card.json")), ensure_ascii=False))
