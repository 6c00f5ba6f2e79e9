"""Downloads: models and directories from the enrolled server. Public bytes, trusted for their signature or hash alone.

GET /models/latest               {"manifest": sha256, "version": n}     unsigned: it only says where to look
GET /models/<sha256>/<file>      a file of a published model
GET /directory/<sha256>          the identities that a masked run's plan names
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any

from palate_client.online.https import Https, RejectedError
from palate_common.errors import IntegrityError, UnreachableError
from palate_common.models import published
from palate_common.models.manifest import MOST_SIGNED
from palate_common.models.published import Published
from palate_common.records.canonical import digest

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOST_POINTER = 1024
_FILE_SECONDS = 600.0


def latest(https: Https) -> str | None:
    """SHA-256 of the newest model's manifest, as the server says; None: there is no model yet.

    Raises:
        UnreachableError: no answer, or none that makes sense.
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


@dataclass(frozen=True)
class ModelDownload:
    """The files of one published model on the server.

    Attributes:
        https: the connection.
        manifest: SHA-256 of its manifest.
        again: how often a file is asked for.
        names: what is to be had there; of the rest the device has the same.
        signed: manifest and signature, once they are here.
    """

    https: Https
    manifest: str
    again: Callable[[Callable[[], bytes]], bytes]
    names: frozenset[str] = frozenset()
    signed: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The manifest's hash."""
        return self.manifest

    def has(self, name: str) -> bool:
        """Whether it is to be fetched where it is needed."""
        return name in self.names

    def get(self, name: str, *, most: int, exactly: int | None = None) -> bytes:
        """A file's bytes."""
        if name in self.signed:
            return self.signed[name]
        path = f"/models/{self.manifest}/{name}"
        data = self.again(partial(_file, self.https, path, most if exactly is None else exactly))
        if name == published.MANIFEST and digest(data) != self.manifest:
            raise IntegrityError("the manifest must be the one that was asked for, got another")
        return data


def model(
    https: Https,
    manifest: str,
    *,
    public_key: str,
    most: int,
    again: Callable[[Callable[[], bytes]], bytes],
    have: Mapping[str, bytes],
) -> Published:
    """A published model, verified. Nothing is fetched before the manifest's signature, nor more than it says.

    Where the server has a delta from the model in use, that is fetched; where it doesn't fit, the whole.

    Args:
        https: the connection.
        manifest: SHA-256 of its manifest.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        again: how often a file is asked for.
        have: the files in use; what is the same there isn't fetched.

    Raises:
        UnreachableError: a file can't be had.
        IntegrityError: it doesn't verify.
    """
    remote = ModelDownload(https, manifest, again)
    signed = {name: remote.get(name, most=MOST_SIGNED) for name in (published.MANIFEST, published.SIGNATURE)}
    least = published.wanted(signed, public_key=public_key, have=have)
    names = frozenset({*least, published.COMPACT, published.MODEL})
    source = replace(remote, names=names, signed=signed)
    return published.collect(source, public_key=public_key, most=most, small=True, have=have)


def directory(https: Https, name: str, *, most: int) -> bytes:
    """The directory under a hash, as its canonical JSON.

    Args:
        https: the connection.
        name: SHA-256, 64 hexadecimal digits, from a plan.
        most: bytes of the largest directory that is read.

    Raises:
        UnreachableError: it can't be had.
        IntegrityError: it isn't what has this hash.
    """
    data = _file(https, f"/directory/{name}", most).removesuffix(b"\n")
    if digest(data) != name:
        raise IntegrityError("the directory must be the one that the plan names, got another")
    return data


def _file(https: Https, path: str, most: int) -> bytes:
    """A file's bytes."""
    reply = https.request("GET", path, most=most, seconds=_FILE_SECONDS)
    if reply.status != HTTPStatus.OK:
        raise RejectedError(f"a request for {path}", reply.status)
    return reply.body
