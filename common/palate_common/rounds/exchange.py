"""Exchange: what Palate adds to Flower's Fleet messages, so that an answer and the next message are one request.

A device also declares for how long it takes plans, and for what:

    device                                        server
    ActivateNode  + stays, takes            ->    it is drawn for a cohort only as it has declared
    PullMessages  + wait, have, and these   ->    held until there is a message, or the time is up
                  <-  a message  + its record
    PushMessages  + objects, and all these  ->    the answer is stored; held until there is a next message
                  <-  the next message, with its record

The additions are fields of Flower's own messages with numbers that Flower doesn't use. A peer that doesn't know them
skips them, as Protocol Buffers require: Flower's own nodes speak to this server and our devices to Flower's own server
as before, with a request for each part. `KNOWN` in a reply says that the server has understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from palate_common.records.protobuf import Fields, last_uint, uint

KNOWN: Final = 1000
"""In every reply to a request with `WAIT`: 1."""
WAIT: Final = 1001
"""In a request, a number: milliseconds in which the reply may wait for a message; 0: not at all."""
HAVE: Final = 1002
"""In a request, a string: the id of the latest message that the node has. A later one that was handed over, and has no
answer, got lost on the way: it is handed over again."""
RECORD: Final = 1003
"""In a reply with a message, bytes: the object of its one record, if the server has it and it isn't large."""
OBJECT: Final = 1004
"""In PushMessages, bytes, repeated: objects of the answer."""
NEXT: Final = 1005
"""In the reply to PushMessages, bytes: what PullMessages would reply now, `KNOWN` and `RECORD` included."""
STAYS: Final = 1006
"""In ActivateNode, and in a request with `WAIT`, a number: milliseconds for which the device takes plans."""
TAKES: Final = 1007
"""There, too, a number: the sum of `TRAINING` and `SURVEYS`, as far as the user agrees to them."""
TRAINING: Final = 1
SURVEYS: Final = 2

MOST_WAIT: Final = 25.0
"""The longest that a server holds a request, in seconds: less than gateways and devices wait for a reply."""
MOST_RECORD: Final = 2**18
"""The most bytes of a record that goes with its message: many devices are answered at once."""
MOST_INLINE: Final = 40_000
"""The most bytes of the objects that go with an answer. Larger requests have a limit and a queue of their own."""
_MOST_STAY: Final = 2**32 - 1


@dataclass(frozen=True)
class Availability:
    """What a device declares while it is online: a server draws cohorts from those that have the time and the consent.

    It is declared anew with each request, because both change. A device that declares nothing takes part in nothing.

    >>> from palate_common.records.protobuf import read
    >>> Availability.of(read(Availability(stays=2.5, takes=TRAINING | SURVEYS).to_bytes()))
    Availability(stays=2.5, takes=3)

    Attributes:
        stays: seconds for which it takes plans; one that it has taken is finished after that, too.
        takes: what its user agrees to: the sum of `TRAINING` and `SURVEYS`.
    """

    stays: float = 0.0
    takes: int = 0

    @classmethod
    def of(cls, asked: Fields) -> Self:
        """What a request declares.

        Raises:
            IntegrityError: a field is of another kind.
        """
        return cls(
            stays=min(last_uint(asked, STAYS), _MOST_STAY) / 1000, takes=last_uint(asked, TAKES) & (TRAINING | SURVEYS)
        )

    def to_bytes(self) -> bytes:
        """The fields of a request."""
        stays = min(int(1000 * max(0.0, min(self.stays, _MOST_STAY))), _MOST_STAY)
        return uint(STAYS, stays, always=True) + uint(TAKES, self.takes)
