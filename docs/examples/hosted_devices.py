"""Devices of many users in one server process: `fastapi_shelf.py` and `django_shelf.py` host them by this.

Then the server's operator holds keys and data, so it is no longer "on the user's device"; what a user is promised is
what the operator promises. Each user has a store of their own, with a key of their own.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import palate

USER = re.compile(r"[a-z0-9-]{1,64}")


class HostedDevices:
    """The open devices of a server, those used last; a device is closed when nobody uses it and others need room.

    Args:
        home: a folder of their own.
        key_of: user -> the key of their store, from where the server keeps its secrets.
        most: devices that are kept open beside those in use.
    """

    def __init__(self, home: Path, key_of: Callable[[str], bytes], *, most: int = 100) -> None:
        self._home, self._key_of, self._most = home, key_of, most
        self._lock = threading.Lock()
        self._open = OrderedDict[str, palate.Device]()
        self._used = Counter[str]()

    @contextmanager
    def of(self, user: str) -> Iterator[palate.Device]:
        """A user's device, for one request. Requests at once, in threads of their own, share it."""
        if not USER.fullmatch(user):
            raise palate.InputError(f"`user` must be a name of a-z, 0-9 and -, got {user!r:.80}")
        with self._lock:
            if user not in self._open:
                self._open[user] = palate.open(self._home / user, app="shelf", key=self._key_of(user))
            self._open.move_to_end(user)
            self._used[user] += 1
        try:
            yield self._open[user]
        finally:
            with self._lock:
                self._used[user] -= 1
                self._make_room(self._most)

    def close(self) -> None:
        """Close all devices, when no request runs any more."""
        with self._lock:
            self._make_room(0)

    def _make_room(self, most: int) -> None:
        idle = [user for user in self._open if not self._used[user]]
        for user in idle[: max(0, len(idle) - most)]:
            del self._used[user]
            self._open.pop(user).close()
