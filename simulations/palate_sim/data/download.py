"""Download: published archives into the cache folder, verified before they are used.

Part of the registry. A file arrives under a temporary name in the cache folder, is checked, and only then renamed: what
lies in the cache under its own name is whole. Where the publisher gives a checksum, it is demanded. Where none is
known, the first download's SHA-256 is printed and pinned in `pins.json`, and every later one must match it.

    >>> Remote("https://example.org/sets/films.zip", members=("ratings.csv",), rename="new-").contents
    ('new-ratings.csv',)
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from palate_core.errors import InputError, IntegrityError

CHUNK = 1 << 20  # bytes read at once
TIMEOUT = 30.0  # seconds without a byte

Say = Callable[[str], None]


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        url: its official address, http or https.
        checksum: "md5:..." or "sha256:..." in hex, or None where none is published.
        members: for a zip archive, the files to unpack, by their names without folders; empty for a plain file.
        rename: for an archive, a prefix for its unpacked files, where two archives have equal names.
    """

    url: str
    checksum: str | None = None
    members: tuple[str, ...] = ()
    rename: str = ""

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]

    @property
    def contents(self) -> tuple[str, ...]:
        """Names of the files that it puts into the folder of its data set."""
        return tuple(self.rename + member for member in self.members) or (self.filename,)


def cache_dir() -> Path:
    """Where downloads are kept: the folder in PALATE_DATA, or the user's cache folder."""
    chosen = os.environ.get("PALATE_DATA")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("palate"))


def say_to_stderr(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr)


def fetch(name: str, remotes: tuple[Remote, ...], say: Say = say_to_stderr, *, terms: str = "") -> Path:
    """Make sure that the files of a set are in the cache.

    Args:
        name: the set, and its folder in the cache.
        remotes: its published files.
        say: called with one line for each download and for each pinned checksum.
        terms: the publisher's terms, which an error names: they say why the files don't come with Palate.

    Returns:
        The folder. An archive that the user has put there by hand is checked and unpacked the same way.

    Raises:
        InputError: the address can't be reached or the transfer broke off; the line says where to put the file.
        IntegrityError: the bytes don't match the checksum, or the archive is broken.
    """
    folder = cache_dir() / name
    for remote in remotes:
        if all((folder / content).is_file() for content in remote.contents):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            archive = folder / remote.filename
            if not archive.is_file():
                _transfer(remote, archive, say, terms)
            else:
                _check(remote, archive, archive, say)
            if remote.members:
                _unpack(remote, archive, folder)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"`PALATE_DATA` must be a folder to write to, got {str(folder)!r}: {reason}") from None
    return folder


def _transfer(remote: Remote, archive: Path, say: Say, terms: str) -> None:
    """Stream an address into `archive`, which appears only when whole and verified."""
    say(f"downloading {remote.url}")
    handle, temporary = tempfile.mkstemp(dir=archive.parent, prefix=".part-")
    part = Path(temporary)
    try:
        with os.fdopen(handle, "wb") as out:
            for chunk in _chunks(remote, archive, terms):
                out.write(chunk)
        _check(remote, part, archive, say)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)


def _chunks(remote: Remote, archive: Path, terms: str) -> Iterator[bytes]:
    """Yield the chunks at an address; if that fails, raise an error that says what to do."""
    by_hand = f"with a network, or put {remote.filename} in {archive.parent}"
    by_hand += f" (it doesn't come with Palate; {terms})" if terms else ""
    if not remote.url.startswith(("https://", "http://")):
        raise InputError(f"`url` must be http or https, got {remote.url!r}")
    received = 0
    try:
        # The scheme was checked at construction, and the caller checks the bytes.
        with urllib.request.urlopen(remote.url, timeout=TIMEOUT) as reply:  # noqa: S310
            expected = reply.length
            while chunk := reply.read(CHUNK):
                received += len(chunk)
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise InputError(f"`data` must be downloaded from {remote.url} {by_hand}: got {reason}") from None
    if expected is not None and received != expected:
        got = f"{received} of {expected} bytes"
        raise InputError(f"`data` must be downloaded whole from {remote.url}; again {by_hand}: got {got}")


def _check(remote: Remote, file: Path, archive: Path, say: Say) -> None:
    """Raise IntegrityError unless `file` has the published checksum, or the one pinned at first use."""
    if remote.checksum is not None:
        method, _, wanted = remote.checksum.partition(":")
        found = _digest(file, method)
        if found != wanted:
            raise IntegrityError(f"{archive} must have {method} {wanted}, got {found}: not the published file")
        return
    pins_file = cache_dir() / "pins.json"
    try:
        pins: dict[str, str] = json.loads(pins_file.read_text()) if pins_file.is_file() else {}
    except ValueError:
        raise IntegrityError(f"{pins_file} must hold the pinned checksums as JSON, got something else") from None
    found = "sha256:" + _digest(file, "sha256")
    pinned = pins.setdefault(remote.url, found)
    if pinned != found:
        raise IntegrityError(f"{archive} must have {pinned} as at its first use, got {found}")
    say(f"no published checksum is known for {remote.filename}; pinned at first use: {found}")
    fresh = pins_file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(pins, indent=1, sort_keys=True))
    fresh.replace(pins_file)


def _digest(file: Path, method: str) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(method, usedforsecurity=False)).hexdigest()


def _unpack(remote: Remote, archive: Path, folder: Path) -> None:
    """Unpack the wanted members, flat, each renamed into place when whole."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            found = {entry.rpartition("/")[2]: entry for entry in bundle.namelist() if "__MACOSX" not in entry}
            for member in remote.members:
                if member not in found:
                    raise IntegrityError(f"{archive} must contain {member}, got {', '.join(sorted(found)[:8])}")
                part = folder / f".part-{os.getpid()}-{member}"
                try:
                    with bundle.open(found[member]) as packed, part.open("wb") as out:
                        shutil.copyfileobj(packed, out, CHUNK)
                    part.replace(folder / (remote.rename + member))
                finally:
                    part.unlink(missing_ok=True)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise IntegrityError(f"{archive} must be a whole zip archive, got a broken one: {error}") from None
