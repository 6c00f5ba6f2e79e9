"""Parts: what runs of a server, in a file of its folder, for the commands that ask.

    supervisor -> state/parts.json, touched every second -> read_parts

The file's time is that of the machine's monotonic clock, which nobody sets. It isn't asked for over the network: any
account of the machine can take a port of the loopback interface that is free, and say what a server says. Into `state/`
only who may write the folder can write.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from palate_common.records.closing import Closing
from palate_server.folder.server_folder import Site

EVERY = 1.0
"""Seconds between two looks at what runs."""
SILENT = 10.0
"""Seconds after which a server that has said nothing doesn't answer."""


class PartsFile(Closing):
    """Keeps the file of a server that runs, by a thread of its own: the supervisor may be busy.

    Args:
        site: the server folder.
        parts: returns part -> whether it runs.
    """

    def __init__(self, site: Site, parts: Callable[[], Mapping[str, bool]]) -> None:
        self._file, self._parts = site.parts_file, parts
        self._said: dict[str, bool] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="parts")
        self._thread.start()

    def close(self) -> None:
        """Say nothing any more; closing twice is fine."""
        self._ending.set()
        self._thread.join()
        with suppress(OSError):
            self._file.unlink()

    def _keep(self) -> None:
        while not self._ending.is_set():
            with suppress(OSError):  # a full disk takes a new time all the same
                self._tell(dict(self._parts()))
            self._ending.wait(EVERY)

    def _tell(self, parts: dict[str, bool]) -> None:
        now = time.monotonic()
        if parts == self._said and self._file.exists():
            os.utime(self._file, (now, now))
            return
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"pid": os.getpid(), "parts": parts}))
        os.utime(new, (now, now))
        new.replace(self._file)
        self._said = parts


def read_parts(site: Site) -> dict[str, bool] | None:
    """The parts of a running server, part -> whether it runs; None if it has ended, or says nothing new."""
    try:
        if not 0 <= time.monotonic() - site.parts_file.stat().st_mtime <= SILENT:
            return None
        said = json.loads(site.parts_file.read_bytes())
        return {part: bool(runs) for part, runs in said["parts"].items()} if is_alive(said["pid"]) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def is_alive(pid: object) -> bool:
    """Whether a process of this number is there."""
    try:
        os.kill(int(str(pid)), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
