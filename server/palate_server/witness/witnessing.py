r"""What a log sends to a witness, and what it is answered (C2SP tlog-witness, https://c2sp.org/tlog-witness).

POST PREFIX/add-checkpoint     "old SIZE\n", a line of base 64 for each hash of the proof, "\n", the checkpoint
200                            signature lines: the cosignatures
409, text/x.tlog.size          "SIZE\n": the size that the witness has cosigned last, where SIZE isn't that

>>> from palate_core.log.checkpoints import sign_checkpoint
>>> from palate_core.log.merkle import MerkleTree
>>> from palate_core.log.signing import SigningKey
>>> tree = MerkleTree([b"a", b"b", b"c"])
>>> note = sign_checkpoint(tree.checkpoint(), "example.com/log", SigningKey.generate())
>>> request = AddCheckpoint(2, tree.consistency_proof(2, 3), note)
>>> read_request(request.to_bytes()) == request
True
"""

from __future__ import annotations

from dataclasses import dataclass

from palate_core.errors import IntegrityError
from palate_core.log.checkpoints import read_decimal
from palate_core.log.notes import MOST_NOTE, Note, from_base64, read_note, to_base64

PATH = "/add-checkpoint"
"""What is asked for, below the witness's prefix."""
SIZE_TYPE = "text/x.tlog.size"
"""Content type of an answer that has the witness's size."""
MOST_PROOF = 63
"""The most hashes of a proof."""
MOST_REQUEST = MOST_NOTE + 2**12
"""Bytes of the largest request."""
MOST_ANSWER = 2**14
"""Bytes of the largest answer that a log reads."""


@dataclass(frozen=True)
class AddCheckpoint:
    """A log asks for a cosignature.

    Attributes:
        old: size of the checkpoint that the witness has cosigned last, as far as the log knows.
        proof: RFC 9162 consistency proof from there, as hexadecimal hashes.
        note: the new checkpoint, signed by the log.
    """

    old: int
    proof: tuple[str, ...]
    note: Note

    def to_bytes(self) -> bytes:
        """The request's body."""
        lines = [f"old {self.old}", *(to_base64(bytes.fromhex(each)) for each in self.proof)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.note.to_bytes()


def read_request(data: bytes) -> AddCheckpoint:
    """Parse a request's body; nothing in it is verified.

    Raises:
        IntegrityError: it is none.
    """
    if len(data) > MOST_REQUEST:
        raise IntegrityError(f"a request must have at most {MOST_REQUEST} bytes, got {len(data)}")
    head, empty, rest = data.partition(b"\n\n")
    try:
        first, *hashes = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        first, hashes = "", []
    if not empty or not first.startswith("old ") or len(hashes) > MOST_PROOF:
        raise IntegrityError(
            f"a request must be `old SIZE`, up to {MOST_PROOF} hashes, an empty line and a note, got {head!r:.80}"
        )
    proof = [from_base64(each) for each in hashes]
    if any(len(each) != 32 for each in proof):
        raise IntegrityError("each hash of a proof must have 32 bytes, got another length")
    return AddCheckpoint(read_decimal(first[4:]), tuple(each.hex() for each in proof), read_note(rest))


def size_answer(size: int) -> bytes:
    """The body of an answer that has the witness's size."""
    return b"%d\n" % size


def read_size(data: bytes) -> int:
    """Read what `size_answer` made.

    Raises:
        IntegrityError: it is something else.
    """
    text = data[:32].decode("ascii", "replace")
    if len(data) > 20 or not text.endswith("\n"):
        raise IntegrityError(f"a size must be a number and a newline, got {text!r}")
    return read_decimal(text[:-1])
