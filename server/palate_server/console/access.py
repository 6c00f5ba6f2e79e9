"""Access: who may see the operator's page: whoever can write the server folder.

    palate serve console -> a token in the address, for one use within minutes -> a session

Other accounts of the machine can open its loopback ports, so that being on loopback proves nothing: a token proves
that its bearer can write the server folder. Tokens and sessions are files of `state/console`, named by their hashes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from palate_common.records.files import create_durably
from palate_core.errors import InputError
from palate_server.folder.server_folder import Site

SECONDS = {"token": 600.0, "session": 12 * 3600.0}
"""How long a token may be used, and how long a session lasts."""
MOST = 64
"""The most tokens and the most sessions; the oldest make room."""


class Access:
    """The page's tokens and sessions of one server folder.

    **Guarantees:** a token opens one session: it is taken back before it is answered.

    Args:
        site: the server folder.
        clock: returns seconds since 1970.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = site.state / "console", clock

    def make_token(self) -> str:
        """Make a token, for one use.

        Raises:
            InputError: the folder can't be written.
        """
        return self._make("token")

    def enter(self, token: str) -> str | None:
        """A session for a token; None if it isn't one, was used or is too old.

        Raises:
            InputError: the folder can't be written.
        """
        if not self._is_fresh("token", token):
            return None
        try:
            self._path("token", token).unlink()
        except OSError:  # somebody else has just used it
            return None
        return self._make("session")

    def admits(self, session: str) -> bool:
        """Whether a session lasts."""
        return self._is_fresh("session", session)

    def leave(self, session: str) -> None:
        """End a session."""
        self._path("session", session).unlink(missing_ok=True)

    def _make(self, kind: str) -> str:
        made = secrets.token_urlsafe(32)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tidy(kind)
            path, now = self._path(kind, made), self._clock()
            create_durably(path, b"", mode=0o600)
            os.utime(path, (now, now))
        except OSError as error:
            raise InputError(f"`FOLDER` must be writable, got {self._folder}: {error.strerror}") from None
        return made

    def _tidy(self, kind: str) -> None:
        """Remove what is too old, and the oldest where there are too many."""
        there = sorted(self._folder.glob(f"{kind}-*"), key=self._age)
        for path in [each for each in there if self._age(each) > SECONDS[kind]] + there[MOST - 1 :]:
            path.unlink(missing_ok=True)

    def _path(self, kind: str, secret: str) -> Path:
        return self._folder / f"{kind}-{hashlib.sha256(secret.encode()).hexdigest()}"

    def _is_fresh(self, kind: str, secret: str) -> bool:
        return self._age(self._path(kind, secret)) <= SECONDS[kind]

    def _age(self, path: Path) -> float:
        """Seconds since a file was made; infinite if it isn't there."""
        try:
            return max(0.0, self._clock() - path.stat().st_mtime)
        except OSError:
            return float("inf")
