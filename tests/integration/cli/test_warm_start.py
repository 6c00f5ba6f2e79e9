"""A run that starts from a former release of its population: uncharged, pinned by its hash, refused when changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from palate_common.models.model import GlobalModel
from palate_common.models.published import MANIFEST_TAG
from palate_common.records.files import write_durably
from palate_common.records.key_file import load_key
from palate_core.accounting import epsilon_of
from palate_core.log.canonical import canonical_json, digest
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.registry import INPUTS
from palate_server.rounds.terms import RunTerms

PEOPLE = ("--ledger", "people.db", "--set", "privacy.population=people")
TRAINED = ("--epsilon", "20")


def run(palate: Any, folder: Path, quick: Any, log: str, name: str, *options: str) -> Any:
    return palate("simulate", log, "--out", name, *PEOPLE, *TRAINED, *quick, *options, cwd=folder)


def read(folder: Path, name: str, file: str) -> Any:
    return json.loads((folder / name / file).read_text())


@pytest.fixture(scope="module")
def begun(palate: Any, quick: Any, rows: Any, as_csv: Any, tmp_path_factory: Any) -> Path:
    """The log of a first month, released, and that of both, which has more items."""
    folder: Path = tmp_path_factory.mktemp("begun") / "work"
    folder.mkdir()
    for name, items in (("few", 30), ("first", 60), ("both", 80)):
        (folder / f"{name}.csv").write_text(as_csv([row for row in rows if int(row[1][1:]) < items]))
    assert run(palate, folder, quick, "first.csv", "first").code == 0
    return folder


@pytest.fixture
def months(begun: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(begun, tmp_path / "work"))


def test_a_second_release_starts_from_the_first(palate: Any, months: Path, quick: Any) -> None:
    for name, place in (("second", "first"), ("third", "second/model")):
        done = run(palate, months, quick, "both.csv", name, "--set", f"warm_start={place}")
        assert done.code == 0, done.err
    first, second, third = (read(months, name, "privacy_card.json") for name in ("first", "second", "third"))
    # Each pays for its own releases and for nothing that came before.
    for card in (first, second, third):
        assert card["epsilon"] == pytest.approx(20, rel=1e-4)
        assert sum(release["mu2"] for release in card["releases"]) == pytest.approx(card["mu"] ** 2)
    assert first["builds_on"] is None
    assert second["builds_on"] == {"run": first["run"], "model_hash": first["model_hash"], "releases": 4}
    assert third["builds_on"]["model_hash"] == second["model_hash"]
    assert [len(card["releases"]) for card in (first, second, third)] == [4, 2, 2]
    together = epsilon_of(mu=third["mu"] * 3**0.5, delta=third["delta"] - third["delta_reserved"])
    assert third["population"]["spent_epsilon"] == pytest.approx(together, rel=1e-6)
    assert f"former release of the run {second['run']}" in third["guarantee"]
    result = read(months, "third", "result.json")
    assert result["builds_on"] == third["builds_on"]
    assert result["population_epsilon"] == third["population"]["spent_epsilon"]
    assert second["model_hash"][:12] in (months / "third" / "report.html").read_text()
    # The arrays are pinned by the terms in the ledger.
    data = (months / "second" / INPUTS).read_bytes()
    with Ledger(months / "people.db", population="people", read_only=True) as ledger:
        terms = RunTerms.model_validate(ledger.entries(second["run"])[0].body["facts"])
    assert terms.inputs == digest(data)
    assert terms.facts.former_signal > 0
    assert safetensors.numpy.load(data)["former_known"].sum() < 80


def test_a_lifetime_budget_holds_over_releases(palate: Any, months: Path, quick: Any) -> None:
    before = (months / "people.db").read_bytes()
    limit = ("--set", "privacy.lifetime_epsilon=25")
    refused = run(palate, months, quick, "both.csv", "second", "--set", "warm_start=first", *limit)
    assert (refused.code, len(refused.lines)) == (3, 1)
    assert "lifetime budget of epsilon 25 and has spent 20" in refused.err
    assert (months / "people.db").read_bytes() == before
    assert not (months / "second").exists()


def changed(folder: Path) -> None:
    """Other numbers in the model file."""
    file = folder / "model" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def signed_again(folder: Path) -> None:
    """Other numbers, under a manifest and a signature that fit them."""
    model = GlobalModel.from_bytes((folder / "model" / "model.safetensors").read_bytes())
    other = GlobalModel(model.header, model.state | {"counts": model.state["counts"] + 1})
    key = load_key(folder / "key")
    manifest = json.loads((folder / "model" / "manifest.json").read_bytes()) | {"model_hash": other.hash}
    manifest["files"]["model.safetensors"] = {"sha256": other.hash, "bytes": len(other.data)}
    payload = canonical_json(manifest)
    for name, data in (
        ("model.safetensors", other.data),
        ("manifest.json", payload),
        ("signature", key.sign(MANIFEST_TAG, payload).encode()),
    ):
        write_durably(folder / "model" / name, data)


def test_a_release_that_is_not_what_it_was_is_refused(palate: Any, months: Path, quick: Any) -> None:
    ledger = (months / "people.db").read_bytes()
    broken = {
        "as it was signed": changed,
        "closed with in the ledger": signed_again,
        "a run or of its model": lambda folder: (folder / "model" / "manifest.json").unlink(),
        "signature": lambda folder: (folder / "model" / "signature").write_text("00"),
        "folder of a run": lambda folder: shutil.rmtree(folder),
    }
    for number, (words, break_) in enumerate(broken.items()):
        copy = months / f"copy-{number}"
        shutil.copytree(months / "first", copy)
        break_(copy)
        refused = run(palate, months, quick, "both.csv", "second", "--set", f"warm_start={copy.name}")
        assert (refused.code, len(refused.lines)) == (2, 1), (words, refused.err)
        assert words in refused.err
        assert "warm_start" in refused.err
        assert not (months / "second").exists()
    assert (months / "people.db").read_bytes() == ledger


@pytest.mark.parametrize(
    ("log", "options", "words"),
    [
        ("few.csv", (), "must have every earlier item"),
        ("both.csv", ("--algorithm", "popularity"), "release of the algorithm popularity, got als"),
        ("both.csv", ("--dp", "off"), "needs privacy in both runs"),
        ("both.csv", ("--set", "privacy.population=others", "--ledger", "others.db"), "of the population 'others'"),
        ("both.csv", ("--ledger", "new.db"), "in the ledger new.db"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(
    palate: Any, months: Path, quick: Any, log: str, options: tuple[str, ...], words: str
) -> None:
    refused = run(palate, months, quick, log, "next", "--set", "warm_start=first", *options)
    assert (refused.code, len(refused.lines)) == (2, 1), refused.err
    assert words in refused.err
    assert not (months / "next").exists()


def test_a_release_for_research_is_not_made_a_public_one(palate: Any, months: Path, quick: Any) -> None:
    assert run(palate, months, quick, "first.csv", "former", "--noise", "seeded").code == 0
    refused = run(palate, months, quick, "both.csv", "next", "--set", "warm_start=former")
    assert (refused.code, len(refused.lines)) == (2, 1)
    assert "seeded noise" in refused.err
    again = ("--set", "warm_start=former", "--noise", "seeded")
    hashes = []
    for name in ("one", "other"):
        assert run(palate, months, quick, "both.csv", name, *again).code == 0
        hashes.append(read(months, name, "privacy_card.json")["model_hash"])
    assert hashes[0] == hashes[1]
