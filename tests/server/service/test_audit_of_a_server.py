"""Every file of a server folder is flipped, cut, emptied, taken away and exchanged: found, or named as not covered."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_audit.evidence.evidence import Finding, Verdict
from palate_audit.run.ledger import audit_ledger
from palate_cli.cli import run as command
from palate_common.models import published
from palate_common.records.key_file import load_key
from palate_common.records.tiles import CHECKPOINT
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown
from palate_core.log.cosignatures import cosign
from palate_core.log.notes import COSIGNATURE, VerifierKey, read_note
from palate_core.log.signing import SigningKey
from palate_server.ledger.mirror import Mirror
from palate_server.operation.releases import publish
from palate_server.service.status import unpublished
from palate_sim.card.card import card_payload, sign_card

pytestmark = pytest.mark.slow

KEPT_BACK = {"enrolment.db", "key", "lock"}
"""Files that may be gone."""


@pytest.fixture(scope="module")
def servers(make_shared_service: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two servers of one population's name, each with two runs whose models are published."""
    root = tmp_path_factory.mktemp("servers")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate_server.operation.operation.sleep", lambda seconds: None)
        for name in ("one", "two"):
            service = make_shared_service(name, every_hours=0.0)
            for _ in range(2):
                service.operate()
                with service.site.ledger(read_only=True) as ledger:
                    run, key = unpublished(ledger), service.site.key()
                publish(service.site, run, lambda extract, key=key: sign_card(card_payload(extract), key))
            shutil.copytree(service.site.folder, root / name)
    return root


@pytest.fixture
def server(servers: Path, tmp_path: Path) -> Path:
    """A copy of the first, to be tampered with."""
    return Path(shutil.copytree(servers / "one", tmp_path / "server"))


def alarms(folder: Path) -> list[Finding]:
    return [found for found in audit_ledger(folder).findings if found.verdict is Verdict.ALARM]


def names(findings: list[Finding], name: str) -> bool:
    return any(name in f"{found.said} {dict(found.figures)}" for found in findings)


def rows(data: bytes, folder: Path) -> list[str] | None:
    """What a database says; None if it can't be read."""
    path = folder / "read.db"
    path.write_bytes(data)
    try:
        with sqlite3.connect(path) as connection:
            return [*connection.iterdump(), str(connection.execute("PRAGMA application_id").fetchone())]
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    finally:
        connection.close()


def mutations(data: bytes, other: bytes | None, seed: int, flips: int) -> Iterator[tuple[str, bytes | None]]:
    if data:
        rng = np.random.default_rng(seed)
        for place in rng.integers(len(data), size=flips):
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(rng.integers(8))
            yield f"bit {place}", bytes(flipped)
        yield "cut", data[: len(data) // 2]
        yield "empty", b""
    yield "gone", None
    if other not in (None, data):
        yield "exchanged", other


def counterpart(other: Path, relative: Path) -> bytes | None:
    """The file of the same name at another server; runs and models are in folders of their own names."""
    found = [path for path in sorted(other.rglob(relative.name)) if path.is_file()]
    same = [path for path in found if len(path.relative_to(other).parts) == len(relative.parts)]
    return same[-1].read_bytes() if same else None


def missed(folder: Path, other: Path, scratch: Path, *, seed: int, flips: int) -> list[str]:
    """What was neither found and named, nor said to be covered by nothing."""
    wrong = []
    uncovered = next(found for found in audit_ledger(folder).findings if found.test == "G files not covered")
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        relative, data, mode = path.relative_to(folder), path.read_bytes(), path.stat().st_mode
        for what, changed in mutations(data, counterpart(other, relative), seed, flips):
            if path.name == "ledger.db" and changed and rows(changed, scratch) == rows(data, scratch):
                continue  # a bit that SQLite doesn't use
            path.unlink() if changed is None else path.write_bytes(changed)
            section = audit_ledger(folder)
            raised = list(section.alarms)
            catalogue = [found for found in section.findings if found.test == "G catalogue" and "nobody" in found.said]
            told = names([*raised, *catalogue], relative.name) or (path.name == "ledger.db" and bool(raised))
            named = relative.as_posix() in uncovered.figures["names"] or (what == "gone" and path.name in KEPT_BACK)
            if not (told or named):
                wrong.append(f"{relative}, {what}: {[(each.test, each.said) for each in raised]}")
            path.write_bytes(data)
            path.chmod(mode)
    return wrong


def test_an_honest_server_raises_no_alarm(server: Path) -> None:
    section = audit_ledger(server)
    assert section.alarms == ()
    assert section.series["claim"]["epsilon"] == 4.0
    assert palate.audit(server).verdict is Verdict.PASS
    assert command(["audit", "ledger", str(server)]) == 0
    assert command(["audit", "card", str(server)]) == 2


def test_what_witnesses_say_of_a_server(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror, key = Mirror(server / "public" / "ledger"), load_key(server / "key").public
    witnesses = [SigningKey.generate() for _ in range(2)]
    keys = [VerifierKey.of(f"w{place}.example/1", each, COSIGNATURE) for place, each in enumerate(witnesses)]
    data = (mirror.folder / CHECKPOINT).read_bytes()
    note = read_note(data)
    mirror.cosign(note.with_signatures(cosign(note.text, keys[0].name, witnesses[0], time=1)))
    asked = ["audit", "ledger", str(server), "--public-key", key]
    try:
        assert command([*asked, "--witness", str(keys[0])]) == 0
        assert "1 of 1 have cosigned" in " ".join(capsys.readouterr().out.split())
        assert command([*asked, "--witness", str(keys[0]), "--witness", str(keys[1]), "--quorum", "1"]) == 0
        assert command([*asked, "--witness", str(keys[0]), "--witness", str(keys[1])]) == 4
        assert command([*asked, "--witness", str(keys[1])]) == 4
    finally:
        (mirror.folder / CHECKPOINT).write_bytes(data)


def test_every_file_that_is_touched_is_found_or_named_as_not_covered(
    server: Path, servers: Path, tmp_path: Path
) -> None:
    assert missed(server, servers / "two", tmp_path, seed=1, flips=1) == []


@pytest.mark.soak
def test_many_bits_of_every_file_are_found_or_named_as_not_covered(server: Path, servers: Path, tmp_path: Path) -> None:
    assert missed(server, servers / "two", tmp_path, seed=2, flips=40) == []


def test_a_server_without_its_keys_passes_and_another_key_from_outside_does_not(server: Path) -> None:
    for path in (server / "key", *(server / "tls").glob("*.key")):
        path.unlink()
    section = audit_ledger(server)
    found = next(each for each in section.findings if each.test == "G private key")
    assert found.verdict is Verdict.PASS
    assert section.alarms == ()
    assert audit_ledger(server, public_key="ab" * 32).alarms


def test_what_was_deleted_or_added_as_a_whole_is_found(server: Path, servers: Path) -> None:
    run = sorted((server / "runs").iterdir())[0]
    for place, said in (
        (run, "sealed and not in the folder"),
        (server / "public" / "models" / "latest", "latest is gone"),
        (server / "witness", "plan.json is gone"),
        (server / "ledger.db", "ledger.db is gone"),
        (server / "items", "items is gone"),
        (server / "server.toml", "server.toml is gone"),
    ):
        kept = server.parent / "kept"
        place.rename(kept)
        assert any(said in found.said for found in alarms(server)), said
        kept.rename(place)
    model = next(path for path in (server / "public" / "models").iterdir() if path.is_dir())
    shutil.move(model, server.parent / "model")
    assert "G models kept" in {found.test for found in alarms(server)}
    shutil.move(server.parent / "model", model)
    strange = sorted((servers / "two" / "runs").iterdir())[0]
    shutil.copytree(strange, server / "runs" / strange.name)
    assert "G runs of the ledger" in {found.test for found in alarms(server)}
    shutil.rmtree(server / "runs" / strange.name)
    assert alarms(server) == []


def test_an_older_ledger_contradicts_what_was_signed(server: Path) -> None:
    """Somebody puts back a ledger from before the last run, as a backup would have it."""
    connection = sqlite3.connect(server / "ledger.db")
    connection.executescript("DROP TRIGGER no_delete; DELETE FROM entries WHERE seq > 12")
    connection.close()
    assert "G checkpoints" in {found.test for found in alarms(server)}


def test_a_model_that_the_ledger_never_published_is_an_alarm_though_it_is_signed(server: Path) -> None:
    from palate_common.models.model import GlobalModel

    key = load_key(server / "key")
    models = server / "public" / "models"
    offer = json.loads((models / "latest").read_bytes())
    found = published.read(models / offer["manifest"], public_key=key.public)
    state = {name: np.array(array) for name, array in found.model.state.items()}
    state["counts"][0] += 1.5
    facts = {"run": "x", "dp": "distributed"}
    shown = Shown(checkpoint=found.manifest.checkpoint)
    model = GlobalModel(found.model.header, state)
    files = published.pack(model, found.catalogue, facts, key, population="readers", shown=shown)
    folder = models / digest(files[published.MANIFEST])
    published.write(folder, files)
    (models / "latest").write_bytes(canonical_json({"version": found.version, "manifest": folder.name}))
    assert any("never published by the ledger" in each.said for each in alarms(server))


def test_a_model_without_its_entry_is_an_alarm_where_others_have_one(server: Path) -> None:
    """And one whose entry isn't the ledger's is none that can be read."""

    key, models = load_key(server / "key"), server / "public" / "models"
    offer = json.loads((models / "latest").read_bytes())
    folder = models / offer["manifest"]
    manifest = json.loads((folder / published.MANIFEST).read_bytes())
    bare = {name: value for name, value in manifest.items() if name != "publication"}
    entry = {**manifest["publication"]["entry"], "manifest": "ab" * 32}
    forged = {**manifest["publication"], "entry": entry}
    for changed, why in (
        ({**bare, "format": 2}, "shows no entry of the ledger, and earlier ones do"),
        ({**manifest, "publication": forged}, "must be the one that its entry in the ledger is about"),
    ):
        payload = canonical_json(changed)
        made = folder.with_name(digest(payload))
        folder = folder.rename(made)
        (folder / published.MANIFEST).write_bytes(payload)
        (folder / published.SIGNATURE).write_text(key.sign(published.MANIFEST_TAG, payload))
        (models / "latest").write_bytes(canonical_json({"version": offer["version"], "manifest": folder.name}))
        assert any(why in each.said for each in alarms(server))
