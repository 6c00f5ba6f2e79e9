"""Devices of many users in one server process: `fastapi_shelf.py` and `django_shelf.py` host them by this.

Then the server's operator holds keys and data, so it is no longer "on the user's device"; what a user is promised is
what the operator promises. Each user has a store of their own, with a key of their own.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import palate
import palate.aio

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
        self._open = OrderedDict[str, asyncio.Task[palate.aio.AsyncDevice]]()
        self._used: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[palate.aio.AsyncDevice]:
        """A user's device, for one request. Requests at once share it."""
        if not USER.fullmatch(user):
            raise palate.InputError(f"`user` must be a name of a-z, 0-9 and -, got {user!r:.80}")
        self._used[user] = self._used.get(user, 0) + 1
        try:
            opening = self._open.get(user)
            if opening is None:  # no await up to here: only one request opens it
                opening = self._open[user] = asyncio.create_task(self._opened(user))
            self._open.move_to_end(user)
            yield await asyncio.shield(opening)
        finally:
            self._used[user] -= 1
            if not self._used[user]:
                del self._used[user]
            await self._make_room(self._most)

    async def close(self) -> None:
        """Close all devices, when no request runs any more."""
        await self._make_room(0)

    async def _opened(self, user: str) -> palate.aio.AsyncDevice:
        try:
            return await palate.aio.open(self._home / user, app="shelf", key=self._key_of(user))
        except BaseException:  # whoever asked is told, and the next request tries again
            if self._open.get(user) is asyncio.current_task():
                del self._open[user]
            raise

    async def _make_room(self, most: int) -> None:
        idle = [user for user in self._open if user not in self._used]
        for user in idle[: max(0, len(idle) - most)]:
            (device,) = await asyncio.gather(self._open.pop(user), return_exceptions=True)
            if not isinstance(device, BaseException):  # else it is told to whoever opened it
                await device.close()
