"""What a witness cosigns and what it refuses, status by status, as the specification has them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from witnessed import Log

from palate_core.errors import InputError, IntegrityError
from palate_core.log.checkpoints import LogState, read_state
from palate_core.log.cosignatures import Quorum, cosign
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, Note, Signature, VerifierKey, read_note, read_signatures, sign_note
from palate_core.log.signing import SigningKey, verify_text
from palate_server.witness import folder as witness_folder
from palate_server.witness.cosigner import MOST_TEXT, Answer, Cosigner
from palate_server.witness.folder import MOST_EVIDENCE, State, WitnessFolder, log_id
from palate_server.witness.witnessing import MOST_REQUEST, SIZE_TYPE, AddCheckpoint, read_request, read_size

Make = Callable[..., WitnessFolder]


def ask(witness: Cosigner, log: Log, old: int, size: int) -> Answer:
    return witness.answer(log.request(old, size).to_bytes())


def verified(folder: WitnessFolder, log: Log, answer: Answer, size: int) -> None:
    """The answer is this witness's cosignature of this state."""
    assert answer.status == 200, answer.body
    note = log.note(size).with_signatures(*read_signatures(answer.body))
    quorum = Quorum((folder.verifier_key,), 1)
    assert len(quorum.check(note, log=log.verifier_key, checkpoint=log.tree.checkpoint(size))) == 1


def test_a_log_that_grows_is_cosigned(make: Make, log: Log) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    sizes = [0, 1, 2, 3, 7, 8, 64, 65, 255, 256, 300]
    for old, new in pairwise(sizes):
        verified(folder, log, ask(witness, log, old, new), new)
    verified(folder, log, ask(witness, log, 300, 300), 300)  # the same again is no new state
    state = folder.state(log_id(log.verifier_key.name))
    assert (state.number, state.checkpoint) == (len(sizes) - 1, log.tree.checkpoint(300))
    assert (folder.folder / "states" / log_id(log.verifier_key.name)).stat().st_size < 2048


def test_statuses(make: Make, log: Log) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    stranger, thief = Log("listeners"), Log("readers")
    for each in (stranger, thief):
        each.grow(9)
    stolen = sign_note(LogState(log.verifier_key.name, thief.tree.checkpoint(9)).text, log.verifier_key.name, thief.key)
    good = log.request(5, 9)
    bit = bytearray(good.note.signatures[0].value)
    bit[0] ^= 1
    broken = Note(good.note.text, (replace(good.note.signatures[0], value=bytes(bit)),))
    expected = {
        400: [
            b"",
            b"old 5\n",
            b"old 05\n\n" + good.note.to_bytes(),
            b"old -1\n\n" + good.note.to_bytes(),
            b"old 5\nAAAA\n\n" + good.note.to_bytes(),
            b"old 5\n" + b"A" * 43 + b"\n\n" + good.note.to_bytes(),
            good.to_bytes().replace(b"\n", b"\r\n"),
            replace(good, proof=("ab" * 32,) * 64).to_bytes(),
            replace(good, old=10).to_bytes(),
            AddCheckpoint(5, (), sign_note("a\nb\n", "x", log.key)).to_bytes(),
            b"x" * (MOST_REQUEST + 1),
            replace(good, note=long_text(log)).to_bytes(),
        ],
        404: [stranger.request(0, 9).to_bytes()],
        403: [
            AddCheckpoint(5, good.proof, stolen).to_bytes(),
            AddCheckpoint(5, good.proof, broken).to_bytes(),
            AddCheckpoint(5, good.proof, broken.with_signatures(*good.note.signatures)).to_bytes(),
        ],
        422: [
            replace(good, proof=()).to_bytes(),
            replace(good, proof=(*good.proof, "ab" * 32)).to_bytes(),
            replace(good, proof=tuple(reversed(good.proof))).to_bytes(),
            replace(good, note=log.note(9, "ab" * 32)).to_bytes(),
            replace(log.request(5, 5), proof=("ab" * 32,)).to_bytes(),
        ],
    }
    for status, bodies in expected.items():
        for body in bodies:
            answer = witness.answer(body)
            assert (answer.status, answer.content_type) == (status, "text/plain; charset=utf-8"), body[:80]
            assert answer.body.count(b"\n") == 1
    for old, size in ((0, 9), (4, 9), (6, 9), (0, 0), (3, 4)):
        answer = ask(witness, log, old, size)
        assert (answer.status, answer.content_type, read_size(answer.body)) == (409, SIZE_TYPE, 5)
    verified(folder, log, witness.answer(good.to_bytes()), 9)


def long_text(log: Log) -> Note:
    text = LogState(log.verifier_key.name, log.tree.checkpoint(9), ("x" * MOST_TEXT,)).text
    return sign_note(text, log.verifier_key.name, log.key)


def test_an_empty_log_has_the_empty_root(make: Make, log: Log) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    assert witness.answer(AddCheckpoint(0, (), log.note(0, "ab" * 32)).to_bytes()).status == 422
    verified(folder, log, ask(witness, log, 0, 0), 0)
    verified(folder, log, ask(witness, log, 0, 4), 4)


def test_one_history(make: Make, log: Log) -> None:
    """A log that forks is cosigned on one branch only, whatever is tried."""
    folder = make(log)
    witness = Cosigner(folder)
    fork = Log(key=log.key, tree=MerkleTree([b"entry 0", b"entry 1"]))
    fork.grow(300, "other")
    verified(folder, log, ask(witness, log, 0, 100), 100)
    for old in (0, 2, 99, 100, 101):
        for size in (100, 101, 200):
            assert ask(witness, fork, old, size).status in (400, 409, 422)
    verified(folder, log, ask(witness, log, 100, 101), 101)


def test_another_root_of_the_same_size_is_kept_as_evidence(make: Make, log: Log) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 100), 100)
    forged = AddCheckpoint(100, (), log.note(100, "ab" * 32))
    for _ in range(3):
        answer = witness.answer(forged.to_bytes())
        assert (answer.status, answer.content_type) == (409, "text/plain; charset=utf-8")
    assert witness.answer(replace(forged, old=7).to_bytes()).content_type == SIZE_TYPE
    name = log_id(log.verifier_key.name)
    [piece] = folder.forks(name)
    notes = [read_note(piece[each].encode()) for each in ("cosigned", "signed")]
    for note in notes:  # anybody can check them: the log's key has signed two roots of one size
        verify_text(log.verifier_key.public, note.text, note.by(log.verifier_key)[0].value)
    one, other = (read_state(note.text) for note in notes)
    assert (one.origin, one.checkpoint.size) == (other.origin, other.checkpoint.size)
    assert one.checkpoint.root != other.checkpoint.root
    for number in range(2 * MOST_EVIDENCE):
        witness.answer(AddCheckpoint(100, (), log.note(100, f"{number:064x}")).to_bytes())
    assert len(folder.forks(name)) == MOST_EVIDENCE
    assert witness.health()["forks"] == MOST_EVIDENCE


def test_replays_and_strangers_cost_a_log_nothing(make: Make, log: Log) -> None:
    """Whoever has a log's signed checkpoints can send them again: that must not use up the log's own rate."""
    folder = make(log, per_second=0.1)
    witness = Cosigner(folder, monotonic=lambda: 0.0)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    for _ in range(50):
        assert ask(witness, log, 5, 5).status == 200
        assert ask(witness, log, 0, 5).status == 409
    assert ask(witness, log, 5, 6).status == 429
    assert folder.state(log_id(log.verifier_key.name)).size == 5


def test_rates_of_addresses(make: Make, log: Log) -> None:
    now = [0.0]
    witness = Cosigner(make(log, per_second=2.0), monotonic=lambda: now[0])
    assert sum(witness.is_welcome("192.0.2.1") for _ in range(50)) == 20
    assert witness.is_welcome("192.0.2.2")
    assert all(witness.is_welcome("127.0.0.1") for _ in range(50))
    now[0] = 1.0
    assert sum(witness.is_welcome("192.0.2.1") for _ in range(50)) == 2


def test_requests_at_once_are_answered_one_after_the_other(make: Make, log: Log) -> None:
    """Of many that would extend the same state, one does; nothing is lost, and nothing goes back."""
    folder = make(log)
    witness = Cosigner(folder)
    answers: list[tuple[int, Answer]] = []

    def race(size: int) -> None:
        answers.append((size, ask(witness, log, 0, size)))

    threads = [threading.Thread(target=race, args=(size,)) for size in range(1, 25)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    won = [size for size, answer in answers if answer.status == 200]
    assert len(won) == 1
    assert all(read_size(answer.body) == won[0] for _, answer in answers if answer.status == 409)
    assert folder.state(log_id(log.verifier_key.name)).number == 1


def test_durable_first(make: Make, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state or its copy can't be written, no cosignature leaves."""
    folder, copy = make(log, copy=str(tmp_path / "copy")), tmp_path / "copy"
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    name = log_id(log.verifier_key.name)
    seen: list[int] = []
    keep = WitnessFolder.keep

    def watched(self: WitnessFolder, log: str, state: State) -> None:
        keep(self, log, state)
        seen.append(state.size)

    def full(self: WitnessFolder, log: str, state: State) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(WitnessFolder, "keep", full)
    answer = ask(witness, log, 5, 6)
    assert (answer.status, b"No space left" in answer.body, folder.state(name).size) == (503, True, 5)
    monkeypatch.setattr(WitnessFolder, "keep", watched)
    verified(folder, log, ask(witness, log, 5, 7), 7)
    assert seen == [7]
    copied = (copy / name).read_bytes()
    assert copied == (folder.folder / "states" / name).read_bytes()
    shutil.rmtree(copy)
    copy.write_bytes(b"no folder")
    assert ask(witness, log, 7, 8).status == 503


def test_what_the_copy_lacks_is_not_cosigned_when_it_is_asked_for_again(
    make: Make, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy's disk is full, and the state is written by then: nothing shows a cosignature before the copy has it."""
    folder, copy, name = make(log, copy=str(tmp_path / "copy")), tmp_path / "copy", log_id(log.verifier_key.name)
    witness, write, room = Cosigner(folder), witness_folder.write_durably, [True]
    verified(folder, log, ask(witness, log, 0, 5), 5)
    shutil.copytree(folder.folder / "states", tmp_path / "backup")

    def full(path: Path, data: bytes, *, mode: int) -> None:
        if path.parent == copy and not room[0]:
            raise OSError(28, "No space left on device")
        write(path, data, mode=mode)

    monkeypatch.setattr(witness_folder, "write_durably", full)
    room[0] = False
    assert ask(witness, log, 5, 9).status == 503
    assert folder.state(name).size == 9
    again = ask(witness, log, 9, 9)
    assert (again.status, b"No space left" in again.body) == (503, True)
    with pytest.raises(IntegrityError, match="No space left"):
        witness.latest(name)
    room[0] = True
    verified(folder, log, ask(witness, log, 9, 9), 9)
    assert (copy / name).read_bytes() == (folder.folder / "states" / name).read_bytes()
    assert b"\n9\n" in (witness.latest(name) or b"")
    restore(folder, tmp_path / "backup")
    fork = Log(key=log.key)
    fork.grow(5)
    fork.grow(9, "other")
    assert ask(Cosigner(folder), fork, 5, 9).status == 503


def restore(folder: WitnessFolder, backup: Path) -> None:
    shutil.rmtree(folder.folder / "states")
    shutil.copytree(backup, folder.folder / "states")


def test_a_restored_folder_is_refused_beside_its_copy(make: Make, log: Log, tmp_path: Path) -> None:
    folder = make(log, copy=str(tmp_path / "elsewhere"))
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    shutil.copytree(folder.folder / "states", tmp_path / "backup")
    verified(folder, log, ask(witness, log, 5, 9), 9)
    restore(folder, tmp_path / "backup")
    assert [line for line in folder.check() if "restored from a backup" in line]
    assert ask(Cosigner(folder), log, 5, 10).status == 503
    shutil.rmtree(folder.folder / "states")
    (folder.folder / "states").mkdir()
    assert ask(Cosigner(folder), log, 0, 10).status == 503


def test_a_folder_that_is_restored_while_it_runs_is_refused(make: Make, log: Log, tmp_path: Path) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    shutil.copytree(folder.folder / "states", tmp_path / "backup")
    verified(folder, log, ask(witness, log, 5, 9), 9)
    restore(folder, tmp_path / "backup")
    answer = ask(witness, log, 5, 10)
    assert (answer.status, b"restored from a backup" in answer.body) == (503, True)


def test_its_own_cosignature_tells_a_witness_that_it_was_restored(make: Make, log: Log, tmp_path: Path) -> None:
    folder = make(log)
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    shutil.copytree(folder.folder / "states", tmp_path / "backup")
    mine = read_signatures(ask(witness, log, 5, 9).body)
    restore(folder, tmp_path / "backup")
    witness = Cosigner(folder)
    forged = Signature(mine[0].name, mine[0].key_id, bytes(72))
    request = log.request(5, 9)
    nothing = AddCheckpoint(4, (), request.note.with_signatures(forged))
    assert witness.answer(nothing.to_bytes()).status == 409  # what isn't its own says nothing
    shown = AddCheckpoint(5, request.proof, request.note.with_signatures(*mine))
    assert witness.answer(shown.to_bytes()).status == 503
    assert ask(Cosigner(folder), log, 5, 9).status == 503  # from here on, and after a restart
    assert witness.health()["refused"] == 1


def test_the_folder_is_the_newest(make: Make, log: Log, tmp_path: Path) -> None:
    """What can't be told: a folder that was restored, without a copy, cosigns a fork of what it has forgotten."""
    folder = make(log)
    verified(folder, log, ask(Cosigner(folder), log, 0, 5), 5)
    shutil.copytree(folder.folder / "states", tmp_path / "backup")
    verified(folder, log, ask(Cosigner(folder), log, 5, 9), 9)
    restore(folder, tmp_path / "backup")
    fork = Log(key=log.key)
    fork.grow(5)
    fork.grow(9, "other")
    assert ask(Cosigner(folder), fork, 5, 9).status == 200


def test_damaged_states_are_refused(make: Make, log: Log) -> None:
    folder = make(log)
    name = log_id(log.verifier_key.name)
    path = folder.folder / "states" / name
    whole = path.read_bytes()
    for data in (b"", b"{}", whole[:-1], whole.replace(b'"size":0', b'"size":"0"'), b"x" * 2**16):
        path.write_bytes(data)
        assert ask(Cosigner(folder), log, 0, 5).status == 503
        assert len(folder.check()) == 1
    path.unlink()
    assert ask(Cosigner(folder), log, 0, 5).status == 503
    path.write_bytes(whole)
    (folder.folder / "logs" / name).write_bytes(b"nonsense\n")
    assert ask(Cosigner(folder), log, 0, 5).status == 503


def test_a_log_may_change_its_key(make: Make, log: Log) -> None:
    folder = make(log)
    origin = log.verifier_key.name
    witness = Cosigner(folder)
    verified(folder, log, ask(witness, log, 0, 5), 5)
    new = SigningKey.generate()
    state = LogState(origin, log.tree.checkpoint(6)).text
    note = sign_note(state, "example.com/new-key", new)
    request = AddCheckpoint(5, log.tree.consistency_proof(5, 6), note)
    assert witness.answer(request.to_bytes()).status == 403
    assert not folder.add(VerifierKey.of("example.com/new-key", new), origin)
    assert not folder.add(VerifierKey.of("example.com/new-key", new), origin)
    assert len(folder.keys(log_id(origin))) == 2
    assert witness.answer(request.to_bytes()).status == 200
    both = log.note(7).with_signatures(*sign_note(log.note(7).text, "example.com/new-key", new).signatures)
    answer = witness.answer(AddCheckpoint(6, log.tree.consistency_proof(6, 7), both).to_bytes())
    assert answer.status == 200
    latest = witness.latest(log_id(origin))
    assert latest is not None
    assert [each.name for each in read_note(latest).signatures] == [
        origin,
        "example.com/new-key",
        folder.config.name,
    ]


def test_watching_a_log_again_keeps_its_state(make: Make, log: Log) -> None:
    folder = make(log)
    verified(folder, log, ask(Cosigner(folder), log, 0, 5), 5)
    name = log_id(log.verifier_key.name)
    (folder.folder / "logs" / name).unlink()
    assert ask(Cosigner(folder), log, 5, 6).status == 404
    assert folder.add(log.verifier_key)
    assert folder.state(name).size == 5


def test_folders_and_keys_that_are_refused(make: Make, log: Log, tmp_path: Path) -> None:
    folder = make(log)
    with pytest.raises(InputError, match="a key is never replaced"):
        WitnessFolder.make(folder.folder, folder.config)
    for inside in ("copy", str(tmp_path / "inner" / "copy")):
        with pytest.raises(InputError, match="must be outside the witness's folder"):
            make(log, name="inner", copy=inside)
    assert make(log, name="beside", copy="../copy-of-it").folder.exists()
    with pytest.raises(InputError, match="must be one that `palate witness init` made"):
        WitnessFolder.at(tmp_path)
    with pytest.raises(InputError, match="must be of kind 1"):
        folder.add(VerifierKey.of("x", SigningKey.generate(), COSIGNATURE))
    with pytest.raises(InputError, match="an origin must be one line"):
        folder.add(log.verifier_key, "two\nlines")
    folder.key_file.chmod(0o644)
    with pytest.raises(InputError, match="readable by its owner alone"):
        WitnessFolder.at(folder.folder)
    folder.key_file.chmod(0o600)
    for text in ("name = 3\n", "name = \n", 'name = "a b"\n', 'name = "a"\nother = 1\n', 'name = "a"\nport = 0\n'):
        folder.config_file.write_text(text)
        with pytest.raises(InputError, match=r"\A[^\n]*must[^\n]*\Z|\A[^\n]*Extra[^\n]*\Z"):
            WitnessFolder.at(folder.folder)


def test_messages_there_and_back(log: Log) -> None:
    for old, size in ((0, 300), (5, 300), (255, 256), (300, 300)):
        request = log.request(old, size)
        assert read_request(request.to_bytes()) == request
    for data in (b"", b"5", b"05\n", b"5\n\n", b"-5\n", b"9223372036854775808\n", b"\xd9\xa3\n", b"5 \n"):
        with pytest.raises(IntegrityError):
            read_size(data)
    assert read_size(b"9223372036854775807\n") == 2**63 - 1


def test_a_witness_signs_only_as_itself(make: Make, log: Log) -> None:
    """The answer of one witness never counts as another's, though both watch one log."""
    one, other = make(log, name="one"), make(log, name="other")
    answer = ask(Cosigner(one), log, 0, 5)
    note = log.note(5).with_signatures(*read_signatures(answer.body))
    with pytest.raises(IntegrityError, match="got 0"):
        Quorum((other.verifier_key,), 1).check(note, log=log.verifier_key, checkpoint=log.tree.checkpoint(5))
    assert read_state(note.text).checkpoint == Checkpoint(5, log.tree.root(5))
    assert cosign(note.text, "x", SigningKey.generate(), time=1).name == "x"
