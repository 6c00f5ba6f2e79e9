"""Downloads: models from the enrolled server. They are public; a signature or hash verifies each.

GET /models/latest               {"manifest": sha256, "version": n}     unsigned: it only says where to look
GET /models/<sha256>/<file>      a file of a published model
GET /round/<sha256>              the model that a round starts from, which its plan names
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from palate_client.online.https import Https, RejectedError
from palate_client.online.retry import SyncEnd
from palate_common.models import published
from palate_common.models.manifest import MOST_SIGNED
from palate_common.models.published import Published
from palate_core.errors import IntegrityError, UnreachableError
from palate_core.log.canonical import digest

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_POINTER = 1024
_FILE_SECONDS = 600.0


def latest(https: Https) -> str | None:
    """SHA-256 of the newest model's manifest, according to the server; None: there is no model yet.

    Raises:
        UnreachableError: the answer is missing or invalid.
    """
    reply = https.request("GET", "/models/latest", most=_MOST_POINTER)
    if reply.status == HTTPStatus.NOT_FOUND:
        return None
    if reply.status != HTTPStatus.OK:
        raise RejectedError("a request for its newest model", reply.status)
    try:
        value: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        value = None
    manifest = value.get("manifest") if isinstance(value, dict) else None
    if not isinstance(manifest, str) or not _HEX.fullmatch(manifest):
        raise UnreachableError("the server must name its newest model, got something else")
    return manifest


Again = Callable[[Callable[[], bytes]], bytes | SyncEnd]
"""A function that calls a download until it succeeds or time is over, such as `Deadline.retry`."""


@dataclass
class ModelDownload:
    """The files of one published model on the server.

    Attributes:
        https: the connection.
        manifest: SHA-256 of its manifest.
        again: retries a download.
        names: files to download; the device has all others.
        signed: manifest and signature, once they are downloaded.
        over: why the download ended before a file was complete; None: it didn't.
    """

    https: Https
    manifest: str
    again: Again
    names: frozenset[str] = frozenset()
    signed: Mapping[str, bytes] = field(default_factory=dict)
    over: SyncEnd | None = None

    @property
    def place(self) -> str:
        """The manifest's hash."""
        return self.manifest

    def has(self, name: str) -> bool:
        """Whether a file may be downloaded."""
        return name in self.names

    def get(self, name: str, *, most: int, exactly: int | None = None) -> bytes:
        """A file's bytes.

        Raises:
            UnreachableError: the download failed; `over` is set if it may succeed later.
        """
        if name in self.signed:
            return self.signed[name]
        path = f"/models/{self.manifest}/{name}"
        data = self.again(partial(_file, self.https, path, most if exactly is None else exactly))
        if isinstance(data, SyncEnd):
            self.over = data
            raise UnreachableError(f"{path} must come in time, got none: {data.ended}")
        if name == published.MANIFEST and digest(data) != self.manifest:
            raise IntegrityError("the manifest must be the one that was asked for, got another")
        return data


def model(
    https: Https,
    manifest: str,
    *,
    public_key: str,
    most: int,
    again: Again,
    have: Mapping[str, bytes],
) -> Published | SyncEnd:
    """Download and verify a published model. The manifest's signature is checked before anything else is downloaded.

    Args:
        https: the connection.
        manifest: SHA-256 of its manifest.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        again: retries a download.
        have: the files in use; files that haven't changed aren't downloaded.

    Returns:
        The model, or why the download ended before it was complete.

    Raises:
        UnreachableError: the server refused a file.
        IntegrityError: the model doesn't verify.
    """
    remote = ModelDownload(https, manifest, again)
    try:
        signed = {name: remote.get(name, most=MOST_SIGNED) for name in (published.MANIFEST, published.SIGNATURE)}
        least = published.wanted_files(signed, public_key=public_key, have=have)
        remote.names, remote.signed = frozenset(least), signed
        return published.collect(remote, public_key=public_key, most=most, small=True, have=have)
    except UnreachableError:
        if remote.over is not None:
            return remote.over
        raise


def round_model(https: Https, name: str, *, most: int, over: Callable[[], bool]) -> bytes:
    """Download the model file of a hash.

    Args:
        https: the connection.
        name: SHA-256, 64 hexadecimal digits, from a plan.
        most: bytes of the largest model that is read.
        over: returns whether to stop.

    Raises:
        UnreachableError: the download failed.
        StoppedError: `over`, or the app asked to stop.
        IntegrityError: the plan names no hash, or the bytes have another one.
    """
    if not _HEX.fullmatch(name):
        raise IntegrityError("a plan must name its model by a hash, got something else")
    data = _file(https, f"/round/{name}", most, over=over)
    if digest(data) != name:
        raise IntegrityError("the model must be the one the plan names, got another")
    return data


def _file(https: Https, path: str, most: int, *, over: Callable[[], bool] | None = None) -> bytes:
    reply = https.request("GET", path, most=most, seconds=_FILE_SECONDS, over=over)
    if reply.status != HTTPStatus.OK:
        raise RejectedError(f"a request for {path}", reply.status)
    return reply.body
