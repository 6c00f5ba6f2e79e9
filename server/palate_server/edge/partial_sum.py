"""PartialSum: masked vectors that an edge adds up itself, so that one goes on to the coordinator in the place of many.

device -> vector, signature -> `add` at its edge -> sum modulo 2^b, and all signatures -> coordinator
"""

from __future__ import annotations

from palate_core.errors import IntegrityError
from palate_core.masks.messages import HASH, HEADER, SIGNATURE, Step, read
from palate_core.masks.packing import PackedSum, pack, packed_bytes
from palate_core.masks.transcript import INPUT, check_signature
from palate_server.edge.batches import SHARED, Frame
from palate_server.edge.proofs import proven


def answer_bytes(size: int, bits: int) -> int:
    """Bytes of a device's answer with a masked vector."""
    return HEADER + packed_bytes(size, bits) + SIGNATURE


class PartialSum:
    """The sum of the vectors that have come since the last one was taken.

    **Guarantees:** an answer that the coordinator would refuse is in no sum, so that no device spoils those of others.

    Args:
        signed: what each device signs beside its vector, which begins with context and toss of the attempt.
        size: numbers of a vector.
        bits: they are modulo 2^bits.
    """

    def __init__(self, signed: bytes, *, size: int, bits: int) -> None:
        self._signed, self._size, self._bits = signed, size, bits
        self._sum, self._frames = PackedSum(size, bits), list[Frame]()

    def add(self, device: int, answer: bytes, identity: str, proof: bytes | None) -> int:
        """Add the vector of a device's answer: bytes of what is kept of it, 0 if the answer is none.

        Args:
            device: the device.
            answer: what it has answered.
            identity: its public key, hexadecimal.
            proof: what shows that it is of that device, where the coordinator is on another host.
        """
        try:
            toss, body = read(
                memoryview(answer), step=Step.INPUT, device=device, context=self._signed[:HASH], answer=True
            )
            if toss != int.from_bytes(self._signed[HASH : HASH + 2], "little"):
                raise IntegrityError("an answer must be of its attempt's toss, got another's")
            signature = bytes(body[-SIGNATURE:])
            check_signature(identity, INPUT, self._signed, signature)
            self._sum.add(body[:-SIGNATURE])
        except IntegrityError:
            return 0
        self._frames.append((device, signature if proof is None else proven(proof, signature)))
        return len(self._frames[-1][1])

    def take(self) -> list[Frame]:
        """The packed sum, and of each device in it what it has signed; then it begins anew. Empty: nobody's came."""
        frames, self._frames = self._frames, []
        if not frames:
            return []
        total = pack(self._sum.values(), self._bits)
        self._sum = PackedSum(self._size, self._bits)
        return [(SHARED, total), *frames]
