"""Doors: ten kinds of garbage at each reader of others' bytes; none is taken, and none takes much more than its size.

What Python and numpy allocate is counted. There are some nine hundred messages: that is why it takes two CPU-seconds.
"""

from __future__ import annotations

import tracemalloc

import pytest
from doors import doors, kinds

SIZE = 2**18
MOST = 6
"""Times the size of so small a message: what is bounded by a number, such as fields, is a part of it."""


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be larger than the messages here may not be."""
    monkeypatch.setattr("palate_core.plan.MOST_PLAN", SIZE // 2)
    monkeypatch.setattr("palate_server.ledger.extract.MOST_EXTRACT", SIZE // 2)
    monkeypatch.setattr("palate_common.models.model.MOST_HEADER", 2**14)
    monkeypatch.setattr("palate_common.models.manifest.MOST_SIGNED", 2**14)


def test_no_door_takes_what_is_no_message_or_much_more_memory_than_it_has_bytes(narrow: None) -> None:
    taken, costly = [], []
    messages = {kind: make() for kind, make in kinds(SIZE).items()}
    with doors() as every:
        tracemalloc.start()
        try:
            assert {door.side for door in every} == {"server", "device", "auditor"}
            for door in every:
                for kind, raw in messages.items():
                    for at, frame in enumerate(door.frames):
                        message = frame(raw)
                        before = tracemalloc.get_traced_memory()[0]
                        tracemalloc.reset_peak()
                        if door.takes(message):
                            taken.append((door.name, kind, at))
                        if tracemalloc.get_traced_memory()[1] - before > MOST * SIZE:
                            costly.append((door.name, kind, at))
        finally:
            tracemalloc.stop()
    assert not taken
    assert not costly
