"""`palate audit ledger` of a mirror: what anybody can check who can fetch a ledger."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palate_audit.evidence.evidence import Section, Verdict
from palate_audit.mirror import mirror as mirrors
from palate_audit.mirror.mirror import audit_mirror
from palate_cli.cli import run
from palate_common.records.tiles import CHECKPOINT, pack_entries, read_entries, tile, tile_path, tiles_of
from palate_core.errors import InputError
from palate_core.log.checkpoints import log_key, sign_checkpoint
from palate_core.log.cosignatures import Quorum, cosign
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, Note, VerifierKey, read_note
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_server.ledger.mirror import Mirror

KEY, THEIRS = SigningKey.generate(), [SigningKey.generate() for _ in range(3)]
LOG = log_key("readers", KEY.public)
WITNESSES = [str(VerifierKey.of(f"w{place}.example/1", key, COSIGNATURE)) for place, key in enumerate(THEIRS)]


def signed(checkpoint: Checkpoint, *places: int) -> Note:
    note = sign_checkpoint(checkpoint, LOG.name, KEY)
    return note.with_signatures(
        *(cosign(note.text, f"w{place}.example/1", THEIRS[place], time=1_750_000_000 + place) for place in places)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    with Ledger(folder / "ledger.db", population="readers") as ledger:
        ledger.set_budget(mu2=1.0, epsilon=4.38, delta=1e-5)
        ledger.open_run("run-1", {"algorithm": "als"})
        for attempt in range(300):
            ledger.charge(
                run="run-1",
                round_=0,
                attempt=attempt,
                plan_hash=f"{attempt:064x}",
                mu2=0.001,
                run_limit=None,
                facts={"sigma": 100},
            )
        (folder / "public").mkdir()
        Mirror(folder / "public" / "ledger").update(ledger, lambda checkpoint: signed(checkpoint, 0, 2))
    return folder / "public" / "ledger"


@pytest.fixture
def mirror(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "m")
    return tmp_path / "m"


def verdicts(section: Section) -> dict[str, str]:
    return {found.test: found.verdict.value for found in section.findings}


def head(mirror: Path) -> Checkpoint:
    checkpoint = Mirror(mirror).checkpoint()
    assert checkpoint is not None
    return checkpoint


def test_a_whole_mirror_passes(mirror: Path) -> None:
    quorum = Quorum.of(WITNESSES, 2)
    section = audit_mirror(mirror, public_key=KEY.public, quorum=quorum, expect_head=head(mirror))
    assert set(verdicts(section).values()) == {"pass"}
    assert sorted(verdicts(section)) == [
        "G checkpoint",
        "G expected head",
        "G mirror",
        "G rules",
        "G tiles",
        "G witnesses",
    ]
    facts = section.series["facts"]
    assert (facts["population"], facts["entries"]) == ("readers", 303)
    assert facts["mu2"] == pytest.approx(0.3)


def test_what_nobody_vouches_for_is_named(mirror: Path) -> None:
    found = verdicts(audit_mirror(mirror))
    assert (found["G checkpoint"], found["G witnesses"]) == ("not checkable", "not checkable")
    found = verdicts(audit_mirror(mirror, quorum=Quorum.of(WITNESSES, 1)))
    assert found["G witnesses"] == "not checkable"


def test_a_quorum_that_is_not_there_alarms(mirror: Path) -> None:
    for quorum, verdict in (
        (Quorum.of(WITNESSES, 3), "alarm"),
        (Quorum.of(WITNESSES[1:2], 1), "alarm"),
        (Quorum.of(WITNESSES[:1], 1), "pass"),
    ):
        assert verdicts(audit_mirror(mirror, public_key=KEY.public, quorum=quorum))["G witnesses"] == verdict
    moved = read_note((mirror / CHECKPOINT).read_bytes())
    old = signed(Checkpoint(5, "ab" * 32), 1)
    (mirror / CHECKPOINT).write_bytes(moved.with_signatures(old.signatures[-1]).to_bytes())
    found = verdicts(audit_mirror(mirror, public_key=KEY.public, quorum=Quorum.of(WITNESSES, 2)))
    assert found["G witnesses"] == "alarm"


def rewritten(mirror: Path, leaves: list[bytes]) -> None:
    """A mirror of other entries, signed and consistent in itself."""
    tree = MerkleTree(leaves)
    shutil.rmtree(mirror / "tile")
    for level, index, width in tiles_of(len(leaves)):
        files = {tile_path(level, index, width): tile(tree, level, index, width)}
        if level == 0:
            files[tile_path("entries", index, width)] = pack_entries(leaves[256 * index : 256 * index + width])
        for path, data in files.items():
            (mirror / path).parent.mkdir(parents=True, exist_ok=True)
            (mirror / path).write_bytes(data)
    (mirror / CHECKPOINT).write_bytes(signed(tree.checkpoint()).to_bytes())


def leaves_of(mirror: Path) -> list[bytes]:
    whole = (mirror / tile_path("entries", 0)).read_bytes()
    rest = (mirror / tile_path("entries", 1, 47)).read_bytes()
    return [*read_entries(whole, 256), *read_entries(rest, 47)]


def without_a_charge(leaves: list[bytes]) -> list[bytes]:
    return [*leaves[:100], *leaves[101:]]


def twice(leaves: list[bytes]) -> list[bytes]:
    return [*leaves[:100], leaves[99], *leaves[100:]]


def cheaper(leaves: list[bytes]) -> list[bytes]:
    return [
        leaf.replace(b'"plan_hash":"' + b"0" * 62 + b"07", b'"plan_hash":"x' + b"0" * 61 + b"07") for leaf in leaves
    ]


def other_spelling(leaves: list[bytes]) -> list[bytes]:
    return [json.dumps(json.loads(leaf), indent=1).encode() for leaf in leaves]


@pytest.mark.parametrize("change", [without_a_charge, twice, cheaper, other_spelling])
def test_entries_that_break_the_rules_alarm(mirror: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    before = head(mirror)
    rewritten(mirror, change(leaves_of(mirror)))
    found = verdicts(audit_mirror(mirror, public_key=KEY.public, expect_head=before))
    assert (found["G rules"], found["G expected head"]) == ("alarm", "alarm")
    assert found["G checkpoint"] == ("alarm" if change is other_spelling else "pass")  # which has no population


def test_files_that_do_not_fit_alarm(mirror: Path) -> None:
    checkpoint = (mirror / CHECKPOINT).read_bytes()

    def alarmed(test: str) -> None:
        assert verdicts(audit_mirror(mirror, public_key=KEY.public))[test] == Verdict.ALARM.value

    for path, test in (("tile/entries/000", "G mirror"), ("tile/0/000", "G tiles"), ("tile/1/000.p/1", "G tiles")):
        data = (mirror / path).read_bytes()
        for changed in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"x", b""):
            (mirror / path).write_bytes(changed)
            alarmed(test)
        (mirror / path).unlink()
        alarmed(test)
        (mirror / path).write_bytes(data)
    for other in (b"", b"nonsense", checkpoint[:-2], checkpoint.replace(b"\n303\n", b"\n302\n")):
        (mirror / CHECKPOINT).write_bytes(other)
        alarmed("G mirror")
    thief = SigningKey.generate()
    stolen = sign_checkpoint(Checkpoint(303, MerkleTree(leaves_of(mirror)).root()), LOG.name, thief)
    (mirror / CHECKPOINT).write_bytes(stolen.to_bytes())
    alarmed("G checkpoint")


@pytest.fixture
def served(mirror: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(mirror.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/m"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("slow", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_mirror_that_answers_byte_by_byte_holds_up_nobody(slow: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "FILE_SECONDS", 0.5)

    def serve() -> None:
        with server.accept()[0] as connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(slow)
            for _ in range(100):
                connection.sendall(b"a")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        section = audit_mirror(f"http://127.0.0.1:{server.getsockname()[1]}/m", public_key=KEY.public)
    assert time.monotonic() - began < 3.0
    assert [each.said for each in section.findings] == [
        "the mirror can't be read: checkpoint must come within 0.5 s, got a part of it, or nothing"
    ]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, in one line."""
    return " ".join(capsys.readouterr().out.split())


def test_the_command_reads_an_address_and_a_folder(
    served: str, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    witnesses = [word for key in WITNESSES for word in ("--witness", key)]
    for source in (served, str(mirror)):
        asked = ["audit", "ledger", source, "--public-key", KEY.public, *witnesses]
        assert run([*asked, "--quorum", "2"]) == 0
        assert "2 of 3 have cosigned, the first at 2025-06-15 15:06:40 UTC" in said(capsys)
        assert run(asked) == 4
        assert "must be cosigned by 3 of 3 witnesses, got 2" in said(capsys)
    assert run(["audit", "ledger", served + "/nowhere", "--public-key", KEY.public]) == 4
    assert "must be there, got status 404" in said(capsys)
    for words in (
        ["http://127.0.0.1:9/x"],
        [str(mirror), "--quorum", "2"],
        [str(mirror), "--witness", "nonsense"],
        [str(mirror), "--ledger", "x"],
        [served, "--ca", str(mirror / CHECKPOINT)],
    ):
        assert run(["audit", "ledger", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_without_checkpoint() -> None:
    with pytest.raises(InputError, match="must be a mirror"):
        audit_mirror(Path("/nowhere"))
