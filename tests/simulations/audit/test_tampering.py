"""Every file of a run folder is flipped, cut, emptied, taken away and exchanged, and each figure changed: all is found.

The table `COVERED` is the one of docs/audit.md: what vouches for a file, or that nothing does.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_audit.evidence.evidence import Finding, Verdict
from palate_audit.run.card import audit_card
from palate_audit.run.ledger import audit_ledger
from palate_audit.run.statements import ordered
from palate_cli.cli import run as command
from palate_common.records.key_file import load_key
from palate_core.log.canonical import canonical_json
from palate_sim.run.inventory import GROWING, OPTIONAL, SECRETS

COVERED: dict[str, tuple[str, ...]] = {
    "releases/*.safetensors": ("seal in the ledger", "sealed releases"),
    "model/*": ("signed manifest", "published model"),
    "ledger.json": ("its signature and proofs", "extract"),
    "privacy_card.json": ("its signature, and the ledger", "card"),
    "files.json": ("its signature", "signed files"),
    "devices.db": ("files.json", "signed files"),
    "result.json": ("files.json", "signed files"),
    "report.html": ("files.json", "signed files"),
    "people.json": ("files.json", "signed files"),
    "run.json": ("files.json", "signed files"),
    "inputs.safetensors": ("hash in the run's terms", "public inputs"),
    "key": ("the key that signed", "private key"),
}
"""Pattern of a file -> what vouches for it, and the test that says so first."""
UNCOVERED = GROWING | SECRETS
"""Files that nothing vouches for, or that may be gone."""


def both(folder: Path) -> list[Finding]:
    """Every finding of both commands on a folder."""
    return [*audit_ledger(folder).findings, *audit_card(folder).findings]


def alarms(findings: list[Finding]) -> list[Finding]:
    return [found for found in findings if found.verdict is Verdict.ALARM]


def names(findings: list[Finding], path: str) -> bool:
    """Whether some finding names the file."""
    return any(Path(path).name in f"{found.said} {dict(found.figures)}" for found in findings)


def mutations(data: bytes, other: bytes | None, seed: int) -> Iterator[tuple[str, bytes | None]]:
    """What may happen to a file: name and the bytes it then has, or None if it is gone."""
    if data:
        rng = np.random.default_rng(seed)
        for place in (0, int(rng.integers(len(data))), len(data) - 1):
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(rng.integers(8))
            yield f"bit {place}", bytes(flipped)
        yield "cut", data[: len(data) // 2]
        yield "empty", b""
    yield "gone", None
    if other not in (None, data):
        yield "exchanged", other


def tampered(folder: Path, other: Path, *, seed: int = 1) -> Iterator[tuple[str, str, list[Finding]]]:
    """Each file of a folder, each mutation, and what both commands find; the folder is whole again afterwards."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name, data, mode = path.relative_to(folder).as_posix(), path.read_bytes(), path.stat().st_mode
        there = other / name
        for what, changed in mutations(data, there.read_bytes() if there.is_file() else None, seed):
            path.unlink() if changed is None else path.write_bytes(changed)
            yield name, what, both(folder)
            path.write_bytes(data)
            path.chmod(mode)


def missed(found: Iterator[tuple[str, str, list[Finding]]]) -> list[str]:
    """What was neither found and named, nor said to be covered by nothing."""
    wrong = []
    for name, what, findings in found:
        raised = alarms(findings)
        back = what == "gone" and name.startswith(OPTIONAL)  # what an operator may keep back
        if back or (name in UNCOVERED and (what == "gone" or name != "key")):
            ok = not raised
        else:
            ok = bool(raised) and names(raised, name)
        if not ok:
            wrong.append(f"{name}, {what}: {[each.test for each in raised]}")
    return wrong


def small(bench: Any) -> None:
    """The page without plotly's four megabytes, signed so: the audit only hashes it."""
    from palate_sim.run.inventory import write_inventory
    from palate_sim.run.run_folder import RunFolder

    (bench.folder / "report.html").write_text("<h1>eps 4</h1>")
    folder = RunFolder(bench.folder)
    write_inventory(
        folder, json.loads((bench.folder / "files.json").read_text())["run"], load_key(folder.key_file), soon={}
    )


def test_every_file_that_is_touched_is_found_and_named(bench: Any) -> None:
    small(bench)
    assert alarms(both(bench.folder)) == []
    files = {path.relative_to(bench.folder).as_posix() for path in bench.folder.rglob("*") if path.is_file()}
    assert {name for name in files if not any(fnmatch(name, each) for each in COVERED)} <= UNCOVERED
    assert missed(tampered(bench.folder, bench.root / "second")) == []


@pytest.mark.soak
@pytest.mark.parametrize("privacy", [{"dp": "off"}, {"dp": "local"}, {"dp": "central"}, {"masks": "on"}])
def test_every_file_of_every_mode_is_found_and_named(
    bench: Any, run_of: Callable[..., Path], privacy: dict[str, Any]
) -> None:
    folder = run_of(privacy=privacy)
    assert alarms(both(folder)) == []
    for seed in range(5):
        assert missed(tampered(folder, bench.root / "second", seed=seed)) == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each value of a JSON document."""
    if isinstance(value, dict | list) and value:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """The document with another value there."""
    if not path:
        return {True: False, False: True}[value] if isinstance(value, bool) else (
            value + 1 if isinstance(value, int | float) else f"{value}0" if isinstance(value, str) else 1
        )  # fmt: skip
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = changed(copied[path[0]], path[1:])
    return copied


def figures_missed(folder: Path, name: str, *, step: int) -> list[str]:
    """Figures of a JSON file whose change nobody finds."""
    path, wrong = folder / name, []
    data = path.read_bytes()
    document = json.loads(data)
    for place in [*leaves(document)][::step]:
        path.write_bytes(canonical_json(changed(document, place)))
        findings = audit_card(folder).findings if name == "privacy_card.json" else audit_ledger(folder).findings
        if not alarms(list(findings)):
            wrong.append(".".join(map(str, place)))
    path.write_bytes(data)
    return wrong


@pytest.mark.parametrize(("name", "step"), [("privacy_card.json", 9), ("result.json", 19), ("run.json", 29)])
def test_a_figure_that_is_changed_is_found(bench: Any, name: str, step: int) -> None:
    small(bench)
    assert figures_missed(bench.folder, name, step=step) == []


@pytest.mark.soak
@pytest.mark.parametrize(
    "name", ["privacy_card.json", "result.json", "run.json", "ledger.json", "files.json", "model/manifest.json"]
)
def test_every_single_figure_that_is_changed_is_found(bench: Any, name: str) -> None:
    small(bench)
    assert figures_missed(bench.folder, name, step=1) == []


def test_the_privacy_figures_of_the_result_are_the_ledgers_also_without_an_inventory(bench: Any, finding: Any) -> None:
    (bench.folder / "files.json").unlink()
    path = bench.folder / "result.json"
    result = json.loads(path.read_bytes())
    privacy = {**result["config"]["privacy"], "epsilon": 1.0}
    forged = [
        {"delta": 1e-9}, {"dp": "central"}, {"rounds": 99}, {"epsilon_requested": 1.0}, {"masks": "on"},
        {"population_epsilon": 0.1}, {"curve": []}, {"config": {**result["config"], "privacy": privacy}},
    ]  # fmt: skip
    for change in forged:
        path.write_text(json.dumps({**result, **change}))
        assert finding(bench.audit(), "figures of the result").verdict is Verdict.ALARM, change
    path.write_text("{")
    assert finding(bench.audit(), "figures of the result").verdict is Verdict.ALARM


def test_an_inventory_that_was_taken_away_is_missed(bench: Any, finding: Any) -> None:
    (bench.folder / "files.json").unlink()
    assert finding(bench.audit(), "signed files").verdict is Verdict.ALARM


def test_a_file_that_came_later_is_named(bench: Any, finding: Any) -> None:
    (bench.folder / "split").mkdir()
    (bench.folder / "split" / "train.csv.gz").write_bytes(b"x")
    found = finding(bench.audit(), "files not signed")
    assert (found.verdict, found.figures["names"]) == (Verdict.UNCHECKABLE, ["split/train.csv.gz"])


def test_what_a_process_left_beside_the_devices_ledger_is_signed_with_it(bench: Any, finding: Any) -> None:
    """A node that was ended leaves its last participations in a log beside the file, which the next reader merges."""
    from palate_sim.run.inventory import write_inventory
    from palate_sim.run.run_folder import RunFolder

    path, folder = bench.folder / "devices.db", RunFolder(bench.folder)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE charges SET time = time + 1")
    connection.commit()
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{path}{end}.kept")
    connection.close()
    for end in ("", "-wal"):
        Path(f"{path}{end}.kept").rename(f"{path}{end}")
    inventory = json.loads((bench.folder / "files.json").read_bytes())
    write_inventory(folder, inventory["run"], load_key(folder.key_file), soon={})
    assert not Path(f"{path}-wal").exists()
    assert finding(bench.audit(), "signed files").verdict is Verdict.PASS
    Path(f"{path}-wal").write_bytes(b"x")
    assert finding(bench.audit(), "files not signed").figures["names"] == ["devices.db-wal"]


def test_a_private_key_is_named_wherever_it_lies_and_one_of_somebody_else_is_an_alarm(bench: Any, finding: Any) -> None:
    found = finding(bench.audit(), "private key")
    assert (found.verdict, found.figures["names"]) == (Verdict.UNCHECKABLE, ["key"])
    (bench.folder / "key").rename(bench.folder / "model" / "old.pem")
    found = finding(bench.audit(), "private key")
    assert (found.verdict, found.figures["names"]) == (Verdict.UNCHECKABLE, ["model/old.pem"])
    (bench.folder / "model" / "old.pem").unlink()
    assert finding(bench.audit(), "private key").verdict is Verdict.PASS
    shutil.copy(bench.root / "second" / "key", bench.folder / "key")
    assert finding(bench.audit(), "private key").verdict is Verdict.ALARM


def test_participations_that_were_taken_away_are_missed_without_any_inventory(bench: Any, finding: Any) -> None:
    """The audit of old folders had three participations beside four releases, and passed."""
    (bench.folder / "files.json").unlink()
    connection = sqlite3.connect(bench.folder / "devices.db")
    connection.execute("DROP TRIGGER IF EXISTS no_delete")
    connection.execute("DELETE FROM charges WHERE seq = (SELECT max(seq) FROM charges)")
    connection.commit()
    connection.close()
    found = finding(bench.audit(), "participation cap")
    assert found.verdict is Verdict.ALARM
    assert "no device has a receipt" in found.said


def test_a_flipped_model_is_an_alarm_and_no_traceback(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.folder / "model" / "model.safetensors"
    data = path.read_bytes()
    for place in range(0, len(data), len(data) // 40):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        assert "model hash" in {found.test for found in bench.audit().alarms}
    assert command(["audit", "ledger", str(bench.folder)]) == 4
    assert "Traceback" not in capsys.readouterr().err


def republished(bench: Any, *, items: tuple[str, ...] | None = None, **facts: Any) -> None:
    """The model, published anew with these facts, as the operator, who has the key, can."""
    from palate_common.models import published
    from palate_common.models.catalogue import ItemCatalogue
    from palate_core.log.consistency import Shown

    key, folder = load_key(bench.folder / "key"), bench.folder / "model"
    found = published.read(folder, public_key=key.public)
    catalogue = found.catalogue if items is None else ItemCatalogue(items)
    own = {**(found.manifest.model_extra or {}), **facts}
    shown = Shown(checkpoint=found.manifest.checkpoint)
    published.write(folder, published.pack(found.model, catalogue, own, key, population="readers", shown=shown))


def test_an_exact_count_in_the_manifest_is_an_alarm_also_where_the_operator_signs_it(bench: Any, finding: Any) -> None:
    republished(bench, counts=[17, 5])
    found = finding(bench.audit(), "published model")
    assert found.verdict is Verdict.ALARM
    assert "`counts`" in found.said
    republished(bench, counts=None)


def test_a_catalogue_in_the_order_of_frequency_is_an_alarm() -> None:
    rng = np.random.default_rng(0)
    counts = np.sort(rng.gamma(1.0, 50.0, 200))[::-1]
    ids = [f"i{number}" for number in rng.permutation(200)]
    noised = counts + rng.normal(0, 10, 200)
    assert ordered("order", ids, noised, own=True).verdict is Verdict.ALARM
    assert ordered("order", ids, noised, own=False).verdict is Verdict.UNCHECKABLE
    assert ordered("order", ids, rng.permutation(noised), own=True).verdict is Verdict.UNCHECKABLE
    assert ordered("order", sorted(ids), noised, own=True).verdict is Verdict.PASS
    assert ordered("order", ids[:9], noised[:9], own=True).verdict is Verdict.UNCHECKABLE


def test_both_commands_end_with_exit_code_4(bench: Any) -> None:
    for name in ("report.html", "privacy_card.json", "ledger.json"):
        data = (bench.folder / name).read_bytes()
        (bench.folder / name).write_bytes(data.replace(b"4", b"1", 1))
        assert 4 in {command(["audit", part, str(bench.folder)]) for part in ("ledger", "card")}
        (bench.folder / name).write_bytes(data)
