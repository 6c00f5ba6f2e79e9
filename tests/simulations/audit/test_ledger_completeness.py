"""Everything released is charged and sealed, everything in the folder accounted for, the claim counted again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from palate_audit.evidence.evidence import Verdict
from palate_audit.run.ledger import audit_ledger
from palate_common.algorithms import algorithm_class
from palate_common.algorithms.registry import lent
from palate_common.models.model import METADATA_KEY, read_metadata
from palate_common.records.key_file import load_key
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_sim.card.card import sign_card
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger


def release(bench: Any, round_: int = 1) -> Path:
    """A release's file."""
    return Path(bench.folder / "releases" / f"round-{round_}-attempt-0.safetensors")


def rewritten(path: Path, **changes: Any) -> None:
    """A release with another plan, or other steps."""
    data = path.read_bytes()
    steps, record = safetensors.numpy.load(data)["steps"], read_metadata(data)
    steps = steps + changes.pop("more", 0)
    for name in ("users", "subcohorts"):
        record |= {name: changes.pop(name)} if name in changes else {}
    record["plan"] |= changes
    path.write_bytes(safetensors.numpy.save({"steps": steps}, {METADATA_KEY: canonical_json(record).decode()}))


def model_of_its_own(bench: Any) -> None:
    """A published model, rightly signed, that holds something besides the releases: an un-noised checkpoint."""
    from palate_common.models import published
    from palate_common.models.model import GlobalModel
    from palate_core.log.consistency import Shown

    key, folder = load_key(bench.folder / "key"), bench.folder / "model"
    found = published.read(folder, public_key=key.public)
    state = {name: np.array(array) for name, array in found.model.state.items()}
    state["counts"][0] += 1.5
    model = GlobalModel(found.model.header, state)
    facts = dict(found.manifest.model_extra or {})
    shown = Shown(checkpoint=found.manifest.checkpoint)
    files = published.pack(model, found.catalogue, facts, key, population="readers", shown=shown)
    published.write(folder, files)


def bare_file(bench: Any) -> None:
    (bench.folder / "model" / "raw.safetensors").write_bytes(b"x")


TAMPERED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a release that was never charged": (
        "charged releases",
        lambda b: shutil.copy(release(b), b.folder / "releases" / "round-1-attempt-1.safetensors"),
    ),
    "a file that is no release": (
        "charged releases",
        lambda b: (b.folder / "releases" / "sum.npy").write_bytes(b"x"),
    ),
    "another sum in a release": ("sealed releases", lambda b: rewritten(release(b), more=1)),
    "less noise in a release's plan": ("plans", lambda b: rewritten(release(b), sigma=64)),
    "fewer users than the floor": ("plans", lambda b: rewritten(release(b), users=1)),
    "a release that is cut": ("plans", lambda b: release(b).write_bytes(release(b).read_bytes()[:99])),
    "a model with something else in it": ("model from releases", model_of_its_own),
    "another model": ("model hash", model_of_its_own),
    "a published file that nobody signed": ("published model", bare_file),
    "inputs that no terms name": ("public inputs", lambda b: (b.folder / "inputs.safetensors").write_bytes(b"x")),
    "another adjacency in the results": ("adjacency", lambda b: edited(b, "result.json", adjacency="add-remove")),
    "another epsilon in the results": ("epsilon in result.json", lambda b: edited(b, "result.json", epsilon=0.1)),
    "a card that claims less": ("epsilon, closed form", lambda b: claimed(b, 3.9)),
    "a card that claims less, PLD": ("epsilon, PLD", lambda b: claimed(b, 3.9)),
    "a device that took part twice": ("participation cap", lambda b: twice(b)),
    "a plan that was answered and not charged": ("device ledger", lambda b: twice(b, attempt=3)),
}


def edited(bench: Any, name: str, **changes: Any) -> None:
    path = bench.folder / name
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def claimed(bench: Any, epsilon: float) -> None:
    """A signed card with an epsilon of its own."""
    path = bench.folder / "privacy_card.json"
    card = {k: v for k, v in json.loads(path.read_bytes()).items() if k not in ("public_key", "signature")}
    path.write_bytes(sign_card({**card, "epsilon": epsilon}, load_key(bench.folder / "key")))


def twice(bench: Any, *, attempt: int = 0) -> None:
    """A device's second receipt for the last round, in a ledger that forgot the first."""
    import sqlite3

    with SimulatedLedger(bench.folder / "devices.db") as ledger:
        last, _ = ledger.charges()[-1]
    connection = sqlite3.connect(bench.folder / "devices.db")
    columns = "run, round, attempt, plan_hash, mu2, n_bytes, time, devices, trust, purpose"
    row = connection.execute(f"SELECT {columns} FROM charges ORDER BY seq DESC LIMIT 1").fetchone()  # noqa: S608 # constant
    assert row[0] == last.run
    row = (*row[:2], attempt, *row[3:])
    connection.execute(f"INSERT INTO charges({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 # constant
    connection.commit()
    connection.close()


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_an_alarm(bench: Any, finding: Any, what: str) -> None:
    test, tamper = TAMPERED[what]
    tamper(bench)
    assert finding(bench.audit(), test).verdict is Verdict.ALARM


@pytest.mark.parametrize(
    ("gone", "test"),
    [
        ("releases/round-1-attempt-0.safetensors", "model from releases"),
        ("model/model.safetensors", "model hash"),
        ("privacy_card.json", "epsilon"),
        ("devices.db", "participation cap"),
    ],
)
def test_what_is_missing_is_never_a_pass_and_is_missed(bench: Any, finding: Any, gone: str, test: str) -> None:
    (bench.folder / gone).unlink()
    section = bench.audit()
    assert finding(section, test).verdict is Verdict.UNCHECKABLE
    missed = finding(section, "signed files")
    assert (missed.verdict, missed.figures["gone"]) == (Verdict.ALARM, [gone])


def test_a_sealed_release_that_is_gone_is_an_alarm_without_any_inventory(bench: Any, finding: Any) -> None:
    release(bench).unlink()
    (bench.folder / "files.json").unlink()
    found = finding(bench.audit(), "sealed releases")
    assert (found.verdict, found.figures["gone"]) == (Verdict.ALARM, [release(bench).name])


def test_a_stranger_in_the_folder_is_told(bench: Any, finding: Any) -> None:
    (bench.folder / "notes.txt").write_text("x")
    found = finding(bench.audit(), "other files")
    assert (found.verdict, "notes.txt" in found.said) == (Verdict.UNCHECKABLE, True)


def test_a_void_attempt_makes_the_claim_the_whole_budget(bench: Any, finding: Any) -> None:
    """The last round is charged and was never sealed: a card that still claims a sum is an alarm."""
    last = bench.seqs("first", "seal")[-1]
    bench.rewrite([body for body in bench.bodies() if body["seq"] != last])
    bench.resign()
    assert finding(bench.audit(), "claim after void attempts").said.startswith("1 void")
    claimed(bench, 3.999)
    assert finding(bench.audit(), "claim after void attempts").verdict is Verdict.ALARM


def test_a_key_from_outside_is_compared(bench: Any, finding: Any) -> None:
    own, other = load_key(bench.folder / "key").public, SigningKey.generate().public
    assert finding(bench.audit(), "signing key").verdict is Verdict.UNCHECKABLE
    assert finding(bench.audit(public_key=own), "signing key").verdict is Verdict.PASS
    assert finding(bench.audit(public_key=other), "signing key").verdict is Verdict.ALARM


@pytest.mark.parametrize(
    "privacy",
    [{"dp": "central"}, {"dp": "local"}, {"dp": "off"}, {"noise": "seeded"}, {"masks": "on"}, {"epsilon": 150.0}],
    ids=str,
)
def test_an_honest_run_of_any_mode_raises_no_alarm(run_of: Any, finding: Any, privacy: dict[str, Any]) -> None:
    section = audit_ledger(run_of(privacy=privacy, users=24 if "masks" in privacy else 60))  # each masks for all
    assert section.alarms == ()
    assert finding(section, "model from releases").verdict is Verdict.PASS
    assert finding(section, "participation cap").verdict is Verdict.PASS
    claims = finding(section, "epsilon, closed form" if "dp" not in privacy or privacy["dp"] != "off" else "epsilon")
    assert claims.verdict is (Verdict.UNCHECKABLE if privacy.get("dp") == "off" else Verdict.PASS)


def test_an_algorithm_that_is_not_installed_here_is_no_accusation(run_of: Any, finding: Any) -> None:
    with lent(type("Loan", (algorithm_class("popularity"),), {"name": "loan"})):
        folder = run_of(algorithm={"name": "loan", "settings": {}})
        assert finding(audit_ledger(folder), "published model").verdict is Verdict.PASS
    section = audit_ledger(folder)
    assert section.alarms == ()
    for test in ("published model", "model from releases"):
        assert finding(section, test).verdict is Verdict.UNCHECKABLE
        assert "got 'loan'" in finding(section, test).said
    (folder / "model" / "model.safetensors").write_bytes(b"another")
    assert finding(audit_ledger(folder), "model hash").verdict is Verdict.ALARM


def test_a_run_that_was_warm_started_and_one_that_was_saved_raise_no_alarm(run_of: Any) -> None:
    former = run_of(name="former", evaluation={"save_recommendations": True})
    assert audit_ledger(former).alarms == ()
    assert audit_ledger(run_of(name="later", warm_start=str(former))).alarms == ()


def test_of_sub_cohorts_each_has_the_plans_size_and_the_charge_says_how_many(
    bench: Any, run_of: Callable[..., Path], finding: Any, tmp_path: Path
) -> None:
    privacy = {"masks": "on", "subcohorts": 3, "corrupt": 0.1, "dropout": 0.1, "population": "readers"}
    folder = run_of(privacy=privacy, algorithm={"name": "popularity", "settings": {}}, users=60, name="first")
    (tmp_path / "ledger.db").rename(tmp_path / "readers.ledger.db")
    forged = type(bench)(tmp_path)
    assert [each.test for each in forged.audit().findings if each.verdict is Verdict.ALARM] == []
    path = folder / "releases" / "round-0-attempt-0.safetensors"
    sound = path.read_bytes()
    record = read_metadata(sound)
    sizes, cohort = record["subcohorts"], record["plan"]["cohort"]
    assert (len(sizes), sum(sizes), cohort["subcohorts"]) == (3, record["users"], 3)
    assert min(sizes) >= cohort["n_min"]
    card = json.loads((folder / "privacy_card.json").read_bytes())
    assert "in 3 sub-cohorts" in card["guarantee"]
    assert card["mechanism"]["name"].endswith("in 3 sub-cohorts with all of it each")
    few, many = cohort["n_min"] - 1, cohort["n_max"] + 1
    for lie in ([few, *sizes[1:]], [many, *sizes[1:]], [*sizes, sizes[0]], [record["users"]]):
        path.write_bytes(sound)
        rewritten(path, subcohorts=lie, users=sum(lie))
        assert finding(forged.audit(), "plans").verdict is Verdict.ALARM, lie
    path.write_bytes(sound)
    bodies = forged.bodies()
    (charge,) = [body for body in bodies if body["kind"] == "charge"]
    del charge["facts"]["subcohorts"]
    forged.rewrite(bodies)
    forged.resign()
    assert "1 sub-cohorts" in finding(forged.audit(), "charges").said
