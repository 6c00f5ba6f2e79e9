"""Reading the events that another process writes.

Flower's Ray engine trains in its own processes; the command follows their `events.jsonl` and shows it with the same
`Progress` (without a path of its own).

    for event in follow(folder / "events.jsonl", stop=lambda: engine.poll() is not None):
        progress(event)
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from palate_sim.progress.live import LAST_EVENTS


def follow(
    path: Path, *, stop: Callable[[], bool] = lambda: False, offset: int = 0, poll: float = 0.1
) -> Iterator[dict[str, Any]]:
    """Yield the events another process appends to `path`, until its "done" or "failed" event or until `stop()` is true.

    Args:
        path: the log; it need not exist yet.
        stop: called while there is nothing to read; events written before it returned true are still yielded.
        offset: byte to start from: the file's size before the writer starts, where an earlier run left lines.
        poll: seconds between two looks.

    An incomplete line is kept until the rest arrives; a line that is no JSON object (cut by a kill) is skipped.
    """
    position, rest = offset, b""
    while True:
        stopping = stop()
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                chunk = file.read()
            position += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = _parse(line)
                if event is not None:
                    yield event
                    if event.get("event") in LAST_EVENTS:
                        return
        if stopping:
            return
        time.sleep(poll)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event of one line, None if it isn't one."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
