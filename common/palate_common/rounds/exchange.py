"""Exchange: what Palate adds to Flower's Fleet messages, so that an answer and the next message are one request.

    device                                      server
    PullMessages  + wait, have            ->    held until there is a message, or the time is up
                  <-  a message  + its record
    PushMessages  + objects, wait, have   ->    the answer is stored; held until there is a next message
                  <-  the next message, with its record

The additions are fields of Flower's own messages with numbers that Flower doesn't use. Whoever doesn't know them skips
them, as Protocol Buffers require: Flower's own nodes speak to this server and our devices to Flower's own server as
before, with a request for each part. `KNOWN` in a reply says that the server has understood.
"""

from __future__ import annotations

from typing import Final

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

MOST_WAIT: Final = 25.0
"""The longest that a server holds a request, in seconds: less than gateways and devices wait for a reply."""
MOST_RECORD: Final = 2**18
"""The most bytes of a record that goes with its message: many devices are answered at once."""
MOST_INLINE: Final = 40_000
"""The most bytes of the objects that go with an answer. Larger requests have a limit and a queue of their own."""
