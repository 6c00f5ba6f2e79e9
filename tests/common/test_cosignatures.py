"""Checkpoints of a ledger and their cosignatures: what counts for a quorum, and what never does."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate_core.errors import InputError, IntegrityError
from palate_core.log.checkpoints import (
    MOST_SIZE,
    LogState,
    log_key,
    open_checkpoint,
    origin_of,
    read_state,
    sign_checkpoint,
)
from palate_core.log.cosignatures import MOST_TIME, Quorum, cosign, open_cosignature
from palate_core.log.merkle import Checkpoint, MerkleTree
from palate_core.log.notes import COSIGNATURE, ED25519, Note, Signature, VerifierKey, read_note, sign_note
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
LOG = log_key("readers", KEY.public)
TREE = MerkleTree([b"a", b"b", b"c", b"d"])
NOW = TREE.checkpoint(3)
NAMES = ("one.example/w", "two.example/w", "three.example/w")
THEIRS = tuple(SigningKey.generate() for _ in NAMES)
WITNESSES = tuple(VerifierKey.of(name, key, COSIGNATURE) for name, key in zip(NAMES, THEIRS, strict=True))
QUORUM = Quorum(WITNESSES, 2)
TIME = 1_700_000_000


def plain(checkpoint: Checkpoint = NOW) -> Note:
    return sign_checkpoint(checkpoint, LOG.name, KEY)


def by(place: int, text: str, time: int = TIME) -> Signature:
    return cosign(text, NAMES[place], THEIRS[place], time=time)


def cosigned(note: Note, *places: int) -> Note:
    return note.with_signatures(*(by(place, note.text) for place in places))


def refused(note: Note, match: str, quorum: Quorum = QUORUM, log: VerifierKey = LOG) -> None:
    with pytest.raises(IntegrityError, match=rf"\A[^\n]*{match}[^\n]*\Z"):
        quorum.check(read_note(note.to_bytes()), log=log, checkpoint=NOW)


def test_any_two_of_three_suffice_and_one_does_not() -> None:
    for places in combinations(range(3), 2):
        counted = QUORUM.check(cosigned(plain(), *places), log=LOG, checkpoint=NOW)
        assert [each.witness for each in counted] == [WITNESSES[place] for place in places]
        assert {each.time for each in counted} == {TIME}
    for place in range(3):
        refused(cosigned(plain(), place), "cosigned by 2 of 3 witnesses, got 1")
    refused(plain(), "got 0")


def test_a_witness_counts_once() -> None:
    note = plain()
    refused(
        note.with_signatures(by(0, note.text), by(0, note.text, TIME + 1)), "one cosignature by one.example/w, got 2"
    )
    same_key = cosign(note.text, NAMES[1], THEIRS[0], time=TIME)  # under another's name: another id, an unknown key
    refused(cosigned(note, 0).with_signatures(same_key), "got 1")
    same_id = Signature(NAMES[1], WITNESSES[1].key_id, by(0, note.text).value)
    refused(cosigned(note, 0).with_signatures(same_id), "got one that does not fit")
    twice = VerifierKey.of("other.example/w", THEIRS[0], COSIGNATURE)
    with pytest.raises(InputError, match="a key of its own"):
        Quorum((WITNESSES[0], twice), 2)
    with pytest.raises(InputError, match="a name of its own"):
        Quorum((WITNESSES[0], VerifierKey.of(NAMES[0], THEIRS[1], COSIGNATURE)), 2)


def test_only_this_state_counts() -> None:
    note = plain()
    others = {
        "smaller": plain(TREE.checkpoint(2)),
        "larger": plain(TREE.checkpoint(4)),
        "fork": plain(Checkpoint(3, "ab" * 32)),
        "same root": plain(Checkpoint(2, NOW.root)),
        "another log": sign_checkpoint(NOW, origin_of("listeners", KEY.public), KEY),
    }
    for other in others.values():
        with pytest.raises(IntegrityError):
            QUORUM.check(cosigned(other, 0, 1, 2), log=LOG, checkpoint=NOW)
        moved = Note(note.text, (*note.signatures, *cosigned(other, 0, 1, 2).signatures[1:]))
        refused(moved, "does not fit")
    swapped = SigningKey.generate()
    theirs = sign_checkpoint(NOW, origin_of("readers", swapped.public), swapped)
    refused(cosigned(theirs, 0, 1, 2), "must be signed by palate/ledger/1/")
    refused(Note(note.text, cosigned(note, 0, 1).signatures[1:]), "must be signed by")
    with_more = LogState(LOG.name, NOW, ("an extension",)).text
    refused(cosigned(sign_note(with_more, LOG.name, KEY), 0, 1), "must have three lines")
    alias = LogState("palate/ledger/1/other", NOW).text
    refused(cosigned(sign_note(alias, LOG.name, KEY), 0, 1), "must be of log")


def test_a_log_is_no_witness_of_itself() -> None:
    own = VerifierKey.of("own.example/w", KEY, COSIGNATURE)
    note = cosigned(plain(), 0).with_signatures(cosign(plain().text, own.name, KEY, time=TIME))
    refused(note, "got 1", Quorum((WITNESSES[0], own), 2))


def test_honest_witnesses_overlap() -> None:
    """Of 3 with 2 needed, any two quorums share one: unless it cosigns both, a fork has no quorum."""
    fork = plain(Checkpoint(3, "ab" * 32))
    for mine in combinations(range(3), 2):
        QUORUM.check(cosigned(plain(), *mine), log=LOG, checkpoint=NOW)
        rest = [place for place in range(3) if place not in mine]
        with pytest.raises(IntegrityError):
            QUORUM.check(cosigned(fork, *rest), log=LOG, checkpoint=Checkpoint(3, "ab" * 32))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(0, 72 * 8 - 1))
def test_every_changed_bit_of_a_cosignature_is_found(bit: int) -> None:
    note = plain()
    good = by(0, note.text)
    value = bytearray(good.value)
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        open_cosignature(note.text, WITNESSES[0], Signature(good.name, good.key_id, bytes(value)))


def test_malformed_cosignatures() -> None:
    text = plain().text
    good = by(0, text)
    for value in (b"", good.value[:-1], good.value + b"x", bytes(8) + good.value[8:], b"\xff" * 8 + good.value[8:]):
        with pytest.raises(IntegrityError):
            open_cosignature(text, WITNESSES[0], Signature(good.name, good.key_id, value))
    with pytest.raises(IntegrityError, match="got another one"):
        open_cosignature(text, WITNESSES[1], good)
    for time in (0, -1, MOST_TIME + 1):
        with pytest.raises(InputError, match="the time of a cosignature"):
            cosign(text, NAMES[0], THEIRS[0], time=time)
    with pytest.raises(IntegrityError, match="a checkpoint must be"):
        cosign("a\nb\n", NAMES[0], THEIRS[0], time=TIME)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quorum((), 0),
        lambda: Quorum(WITNESSES, 0),
        lambda: Quorum(WITNESSES, 4),
        lambda: Quorum(WITNESSES, True),
        lambda: Quorum((VerifierKey.of("log", KEY, ED25519),), 1),
        lambda: Quorum.of(["nonsense"], 1),
    ],
)
def test_quorums_that_are_none(make: object) -> None:
    with pytest.raises(InputError, match=r"\A[^\n]*must[^\n]*\Z"):
        make()


def test_a_quorum_as_text() -> None:
    assert Quorum.of(QUORUM.keys, QUORUM.needed) == QUORUM


@pytest.mark.parametrize(
    "text",
    [
        "o\n3\n",
        "o\n3\n" + "AAAA" * 8 + "\n",
        "o\n03\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n",
        "o\n+3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n",
        f"o\n{MOST_SIZE + 1}\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n",
        "o\n\u0663\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n",
        "\n3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n",
        "o\n3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=",
        "o\n3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n\nmore\n",
        "o\n3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqp=\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"\A[^\n]*must[^\n]*\Z"):
        read_state(text)


def test_a_checkpoint_there_and_back() -> None:
    state = LogState("example.com/log", Checkpoint(MOST_SIZE, "ab" * 32), ("more",))
    assert read_state(state.text) == state
    assert open_checkpoint(read_note(plain().to_bytes()), LOG) == NOW
    assert read_state(plain().text) == LogState(LOG.name, NOW)


def test_origins_tell_population_and_key_apart() -> None:
    other = SigningKey.generate().public
    origins = {origin_of(name, key) for name in ("readers", "listeners", "") for key in (KEY.public, other)}
    assert len(origins) == 6
    with pytest.raises(InputError, match="a release key must be"):
        origin_of("readers", KEY.public.upper())
