"""Archive: writes a backup as a plain tar file, and reads one without trusting it.

An archive isn't signed, as it contains the key itself. Anyone who can change it can change the contents of its files,
but write nowhere else. tarfile only parses the headers; it writes no file, follows no link, and decompresses nothing.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from palate_core.errors import InputError
from palate_server.folder.config import parse_config
from palate_server.folder.server_folder import FORMAT_FILE, PANEL_FILE, RULES_FILE, TABLE_FILE

CONFIG = "server.toml"
FILES = (CONFIG, "items", "key")
FURTHER = (TABLE_FILE, RULES_FILE, PANEL_FILE, FORMAT_FILE)
"""Files that a folder may have."""
FOLDERS = ("keys", "runs", "public", "tls")
DATABASES = ("ledger.db", "enrolment.db")
MOST, MANY = 2**34, 2**20
"""The most bytes and files of an archive that is unpacked."""
MOST_HEADER, MOST_CONFIG, CHUNK = 2**14, 2**20, 2**20
"""The most bytes of one file's headers and of the configuration; and the bytes of one read of a copy."""


def pack(folder: Path) -> bytes:
    """Make an archive of a folder, without SQLite's -wal and -shm files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            if not path.name.endswith(("-wal", "-shm")):
                tar.add(path, arcname=path.name)
    return data.getvalue()


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive into a new or empty folder.

    **Guarantees:** nothing is written before the whole archive was checked; only the files and folders of a backup are
    written, and nothing outside the folder.

    Raises:
        InputError: it isn't a backup, or is damaged, truncated or compressed.
    """
    try:
        with archive.open("rb") as file:
            members = _members(file)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path, member in members.items():
                _write(file, member, folder / path, public=path.parts[0] == "public")
    except FileNotFoundError:
        raise InputError(f"`ARCHIVE` must be a file, got none: {archive}") from None
    except (OSError, tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"`ARCHIVE` must be what `palate serve backup` wrote, got {archive}: {error}") from None


class _Headers:
    """A file from which tarfile can read at most `left` bytes of headers."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.left = file, MOST_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read `size` bytes."""
        self.left -= size
        if size < 0 or self.left < 0:
            raise ValueError(f"a header of more than {MOST_HEADER} bytes")
        return self._file.read(size)


def _members(file: BinaryIO) -> dict[PurePosixPath, tarfile.TarInfo]:
    """Path -> member of an archive; it must have the files and folders of a backup, and no others.

    Raises:
        ValueError, tarfile.TarError: it has something else, or something is missing.
    """
    found: dict[PurePosixPath, tarfile.TarInfo] = {}
    headers, size, end = _Headers(file), 0, 0
    with tarfile.open(fileobj=cast(BinaryIO, headers), mode="r:") as tar:
        for member in tar:
            path, headers.left = PurePosixPath(member.name), MOST_HEADER
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
                raise ValueError("something that is neither a file nor a folder")
            if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in member.name or path in found:
                raise ValueError("a name that leads elsewhere, or stands twice")
            size += member.size
            if member.size < 0 or (member.isdir() and member.size) or size > MOST or len(found) >= MANY:
                raise ValueError(f"more than {MOST} bytes, or more than {MANY} files")
            found[path], end = member, member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    file.seek(end)
    if file.read(2 * tarfile.BLOCKSIZE) != bytes(2 * tarfile.BLOCKSIZE):
        raise ValueError("one that is damaged, or cut short")
    if missing := [name for name in (*FILES, *DATABASES) if PurePosixPath(name) not in found]:
        raise ValueError(f"one without {missing[0]}")
    file.seek(found[PurePosixPath(CONFIG)].offset_data)
    config = parse_config(file.read(min(found[PurePosixPath(CONFIG)].size, MOST_CONFIG)), CONFIG)
    files = {*FILES, *DATABASES, config.training.features, *FURTHER}
    for path, member in found.items():
        if path.parts[0] not in FOLDERS and (str(path) not in files or member.isdir()):
            raise ValueError(f"{str(path)!r:.80}, which is in no backup")
    return found


def _write(file: BinaryIO, member: tarfile.TarInfo, path: Path, *, public: bool) -> None:
    """Write one new file or folder; other accounts can read it only if it is `public`."""
    if member.isdir():
        path.mkdir(exist_ok=True)
        path.chmod(0o755 if public else 0o700)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file.seek(member.offset_data)
    left = member.size
    with path.open("xb") as made:
        path.chmod(0o644 if public else 0o600)
        while left and (data := file.read(min(left, CHUNK))):
            made.write(data)
            left -= len(data)
