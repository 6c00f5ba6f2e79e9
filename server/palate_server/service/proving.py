"""Proving: that who answers on a port of this machine is the server whose folder it is.

    asker: a number of its own, in a header -> server: an HMAC of the address, the folder and the number -> asker

Any account of the machine can take a port of the loopback interface that is free, and say what a server says. The key
is a file in `state/`, made anew at each start, which only who may read the folder has.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> key = make_key(folder)
>>> read_key(folder) == key, proof(key, folder, "127.0.0.1:8446", "1") == proof(key, folder, "127.0.0.1:8447", "1")
(True, False)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate_common.records.files import write_durably
from palate_core.errors import InputError

NUMBER, PROOF = "palate-number", "palate-proof"
"""Headers: what an asker has drawn, and the server's proof that this answer is its own."""
KEY = "answers.key"


class Proving:
    """An application whose answers have a proof, if the request has a number for it.

    **Guarantees:** no proof without the folder: not by asking this server, as a proof names the address that was asked,
    and not by keeping one, as it names the asker's number.
    **Guarantees:** a copy isn't the folder: a proof names the folder's place on the disk.

    Args:
        application: the application.
        folder: the server folder.

    Raises:
        InputError: the folder can't be written.
    """

    def __init__(self, application: ASGIApp, folder: Path) -> None:
        self._application, self._folder, self._key = application, folder, make_key(folder)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        number = Headers(scope=scope).get(NUMBER)
        if number is None:
            await self._application(scope, receive, send)
            return
        host, port = scope["server"]
        made = proof(self._key, self._folder, f"{host}:{port}", number)

        async def proven(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[PROOF] = made
            await send(message)

        await self._application(scope, receive, proven)


def proof(key: bytes, folder: Path, address: str, number: str) -> str:
    """The proof of an answer at an address, `HOST:PORT` in numbers, to who has sent a number."""
    facts = folder.stat()
    said = f"palate answer\n{address}\n{facts.st_dev:x}-{facts.st_ino:x}\n{number}"
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def make_key(folder: Path) -> bytes:
    """The key of a server that starts; that of a former one proves nothing any more.

    Raises:
        InputError: the folder can't be written.
    """
    key, path = secrets.token_bytes(32), folder / "state" / KEY
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(path, key, mode=0o600)
    except OSError as error:
        raise InputError(f"`FOLDER` must be writable, got {path}: {error.strerror}") from None
    return key


def read_key(folder: Path) -> bytes | None:
    """The key of the server that was started last; None if there is none, or this account may not read it."""
    try:
        return (folder / "state" / KEY).read_bytes()
    except OSError:
        return None
