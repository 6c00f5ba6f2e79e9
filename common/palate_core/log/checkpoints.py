"""Checkpoints: a state of a population's ledger as a signed note, for any witness of logs (C2SP tlog-checkpoint).

    ORIGIN       which log this is, from population and release key
    SIZE         number of entries
    ROOT         base 64 of the RFC 9162 root

Under the three lines stands the release key's signature, and under that those of witnesses (`cosignatures`).

    >>> from palate_core.log.merkle import MerkleTree
    >>> key = SigningKey.generate()
    >>> log = log_key("readers", key.public)
    >>> note = sign_checkpoint(MerkleTree([b"a", b"b"]).checkpoint(), log.name, key)
    >>> open_checkpoint(note, log).size
    2
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from palate_core.errors import InputError, IntegrityError
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import ED25519, Note, VerifierKey, from_base64, sign_note, to_base64, verify_note
from palate_core.log.signing import SigningKey

ORIGIN = "palate/ledger/1/"
"""How the origin of every ledger of Palate begins."""
MOST_SIZE = 2**63 - 1
"""The largest size of a log in a checkpoint."""
_ORIGIN_TAG = b"palate ledger origin 1\x00"
_EPOCH_TAG = b"palate ledger epoch 1\x00"
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_PUBLIC = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class LogState:
    """What a checkpoint of any log says.

    Attributes:
        origin: which log.
        checkpoint: its size and root.
        extensions: further lines, which say nothing that a witness checks; a ledger of Palate has none.
    """

    origin: str
    checkpoint: Checkpoint
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of the note."""
        lines = (self.origin, str(self.checkpoint.size), to_base64(bytes.fromhex(self.checkpoint.root)))
        return "".join(f"{line}\n" for line in (*lines, *self.extensions))


def origin_of(population: str, public: str, epoch: int = 0) -> str:
    """The origin of a population's ledger.

    Two operators' ledgers of populations with one name have two origins, and a witness doesn't learn the name.

    Args:
        population: the population.
        public: the release key with which the ledger began, 64 lower-case hexadecimal digits.
        epoch: how many times it was restored with entries lost: for witnesses it is another log then.

    Raises:
        InputError: the key is malformed.
    """
    if not _PUBLIC.fullmatch(public):
        raise InputError(f"a release key must be 64 lower-case hexadecimal digits, got {public!r:.80}")
    tag = _EPOCH_TAG + epoch.to_bytes(8, "big") if epoch else _ORIGIN_TAG
    return ORIGIN + hashlib.sha256(tag + bytes.fromhex(public) + population.encode()).hexdigest()


def log_key(population: str, public: str) -> VerifierKey:
    """The verifier key of a population's ledger: the origin is its name. Witnesses are given this.

    Raises:
        InputError: the release key is malformed.
    """
    return VerifierKey(origin_of(population, public), ED25519, bytes.fromhex(public))


def read_state(text: str) -> LogState:
    """Read the text of a checkpoint of any log.

    Raises:
        IntegrityError: it is none, or another spelling of one.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise IntegrityError(f"a checkpoint must be origin, size and root, each on a line, got {text!r:.80}")
    size, root = read_decimal(lines[1]), from_base64(lines[2])
    if len(root) != 32:
        raise IntegrityError(f"a checkpoint must have a root of 32 bytes, got {text!r:.80}")
    return LogState(lines[0], Checkpoint(size, root.hex()), tuple(lines[3:]))


def read_decimal(text: str) -> int:
    """Read the size of a log, as checkpoints and witnesses write it.

    Raises:
        IntegrityError: it is none, or another spelling of one.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > MOST_SIZE:
        raise IntegrityError(f"a size must be a decimal below 2^63 without leading zeros, got {text!r:.80}")
    return int(text)


def sign_checkpoint(checkpoint: Checkpoint, origin: str, key: SigningKey) -> Note:
    """Sign a state of a ledger with the release key.

    Args:
        checkpoint: the state.
        origin: of `origin_of`.
        key: the release key.

    Raises:
        InputError: the origin can't be the name of a key.
    """
    return sign_note(LogState(origin, checkpoint).text, origin, key)


def open_checkpoint(note: Note, log: VerifierKey) -> Checkpoint:
    """Verify that a note is a checkpoint of a log of Palate, signed by its key.

    Args:
        note: the note.
        log: of `log_key`, from a source the reader trusts.

    Raises:
        IntegrityError: it isn't.
    """
    verify_note(note, log)
    state = read_state(note.text)
    if state.origin != log.name:
        raise IntegrityError(f"the checkpoint must be of log {log.name:.90}, got one of {state.origin:.90}")
    if state.extensions:
        raise IntegrityError(f"a ledger's checkpoint must have three lines, got {state.extensions[0]!r:.80}")
    return state.checkpoint
