"""Access: who may see the operator's page: whoever can write the server folder, or knows the password.

    palate serve console            -> a token in the address, for one use within minutes -> a session
    palate serve console --password -> `console.password`, a hash; behind the gateway the password -> a session

Other accounts of the machine can open its loopback ports, so that being on loopback proves nothing: a token proves
that its bearer can write the server folder. Tokens and sessions are files of `state/console`, named by their hashes.

>>> kept = hash_password("correct horse battery")
>>> matches("correct horse battery", kept), matches("wrong horse battery", kept)
(True, False)
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from palate_common.records.files import create_durably
from palate_core.errors import InputError
from palate_server.folder.config import MOST_MEMORY, PASSWORD_HASH
from palate_server.folder.server_folder import Site

N, R, P = 2**15, 8, 3
"""Costs of scrypt (RFC 7914): 32 MiB, one of the settings that OWASP's password storage cheat sheet takes for equal."""
SHORTEST, LONGEST = 12, 256
"""Characters of a password."""
TOKEN_SECONDS, SESSION_SECONDS, KNOWN_SECONDS = 600.0, 12 * 3600.0, 90 * 86400.0
"""How long a token may be used, how long a session lasts, and how long a browser that was let in is known."""
_LASTS = {"token": TOKEN_SECONDS, "session": SESSION_SECONDS, "known": KNOWN_SECONDS}
MOST = 64
"""The most tokens, the most sessions and the most known browsers; the oldest make room."""
TRIES, KNOWN_TRIES, WITHIN = 30, 6, 60.0
"""The most wrong passwords in so many seconds, of all strangers together and of each known browser; the gateway has a
limit for each address."""


def hash_password(password: str) -> str:
    """The hash of a password, for `console.password`.

    Raises:
        InputError: it is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"the password must have {SHORTEST} to {LONGEST} characters, got {len(password)}")
    salt = secrets.token_bytes(16)
    return f"scrypt${N}${R}${P}${salt.hex()}${_scrypt(password, salt, N, R, P).hex()}"


def matches(password: str, kept: str) -> bool:
    """Whether a password has this hash."""
    found = PASSWORD_HASH.fullmatch(kept)
    if found is None or len(password) > LONGEST:
        return False
    n, r, p = (int(found[name]) for name in ("n", "r", "p"))
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(found["salt"]), n, r, p).hex(), found["hash"])


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2 * MOST_MEMORY, dklen=32)


class Access:
    """The page's tokens, sessions and password of one server folder.

    **Guarantees:** a token opens one session: it is taken back before it is answered.
    **Guarantees:** a changed password ends the sessions of the former one: each session says which it is of.
    **Guarantees:** who fails shuts out other strangers for a minute, and no browser that the password has let in: that
    has tries of its own (device cookies, as OWASP describes them).

    Args:
        place: the server folder.
        clock: returns seconds since 1970.
    """

    def __init__(self, place: Site, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = place.state / "console", clock
        self._password = place.config.console.password
        self._checking, self._wrong = threading.Lock(), dict[str, deque[float]]()

    @property
    def has_password(self) -> bool:
        """Whether there is a password."""
        return bool(self._password)

    def make_token(self) -> str:
        """Make a token, for one use.

        Raises:
            InputError: the folder can't be written.
        """
        return self._make("token", "")

    def enter_by_token(self, token: str) -> str | None:
        """A session for a token; None if it isn't one, was used or is too old."""
        path = self._path("token", token)
        if not self._is_fresh(path, TOKEN_SECONDS):
            return None
        try:
            path.unlink()
        except OSError:  # somebody else has just used it
            return None
        return self._make("session", "")

    def enter_by_password(self, password: str, known: str = "") -> str | None:
        """A session for the password; None if it is wrong.

        Args:
            password: the password.
            known: what `know` has given the browser.

        Raises:
            BlockingIOError: there were too many wrong ones within a minute, or one of a stranger is being looked at.
        """
        place = self._path("known", known)
        knows = self._is_fresh(place, KNOWN_SECONDS) and self._reads(place, self._which())
        if not self._checking.acquire(blocking=knows):
            raise BlockingIOError
        try:
            now, most = self._clock(), KNOWN_TRIES if knows else TRIES
            for name in [name for name, times in self._wrong.items() if now - times[-1] >= WITHIN]:
                del self._wrong[name]
            wrong = self._wrong.get(place.name if knows else "", deque(maxlen=most))
            if len(wrong) == most and now - wrong[0] < WITHIN:
                raise BlockingIOError
            if not self._password or not matches(password, self._password):
                wrong.append(now)
                self._wrong[place.name if knows else ""] = wrong
                return None
            return self._make("session", self._which())
        finally:
            self._checking.release()

    def know(self, known: str) -> str:
        """What a browser is known by that the password has let in: what it had, if that holds.

        Raises:
            InputError: the folder can't be written.
        """
        place = self._path("known", known)
        if self._is_fresh(place, KNOWN_SECONDS) and self._reads(place, self._which()):
            return known
        return self._make("known", self._which())

    def admits(self, session: str) -> bool:
        """Whether a session lasts."""
        path = self._path("session", session)
        if not self._is_fresh(path, SESSION_SECONDS):
            return False
        return self._reads(path, "", self._which())

    def leave(self, session: str) -> None:
        """End a session."""
        with suppress(OSError):
            self._path("session", session).unlink()

    def _which(self) -> str:
        """What names the password, and is no hash to guess it by: the hash's own hash."""
        return hashlib.sha256(self._password.encode()).hexdigest() if self._password else "none"

    def _reads(self, path: Path, *contents: str) -> bool:
        """Whether a file has one of these contents."""
        try:
            return path.read_text() in contents
        except OSError:
            return False

    def _make(self, kind: str, content: str) -> str:
        made = secrets.token_urlsafe(32)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tidy(kind)
            path, now = self._path(kind, made), self._clock()
            create_durably(path, content.encode(), mode=0o600)
            os.utime(path, (now, now))
        except OSError as error:
            raise InputError(f"`FOLDER` must be writable, got {self._folder}: {error.strerror}") from None
        return made

    def _tidy(self, kind: str) -> None:
        """Remove what is too old, and the oldest where there are too many."""
        seconds = _LASTS[kind]
        there = sorted(self._folder.glob(f"{kind}-*"), key=self._age)
        for path in [each for each in there if self._age(each) > seconds] + there[MOST - 1 :]:
            path.unlink(missing_ok=True)

    def _path(self, kind: str, secret: str) -> Path:
        return self._folder / f"{kind}-{hashlib.sha256(secret.encode()).hexdigest()}"

    def _is_fresh(self, path: Path, seconds: float) -> bool:
        return self._age(path) <= seconds

    def _age(self, path: Path) -> float:
        """Seconds since a file was made; infinite if it isn't there."""
        try:
            return max(0.0, self._clock() - path.stat().st_mtime)
        except OSError:
            return float("inf")
