"""Manifest: what an operator signs of a published model, and the files that it names.

manifest.json, signature -> read_manifest -> Manifest -> sizes and hashes of all other files
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.errors import IntegrityError
from palate_common.records.canonical import canonical_json, digest, read_canonical
from palate_common.records.growth import Shown
from palate_common.records.signing import verify

MANIFEST_TAG = "palate/model/1"
MANIFEST, SIGNATURE = "manifest.json", "signature"
ITEMS, DOMAINS, NEW_ITEMS, FEATURES = "items", "domains", "new-items", "features.safetensors"
MODEL, COMPACT = "model.safetensors", "model.int8.safetensors.z"
UNPACKED = "model.int8.safetensors"
"""What a compact model is before it is deflated: deltas go from one of these to another. It is no file of a folder."""
MOST_SIGNED = 2**18
"""Bytes of the largest manifest, and of the largest signature, that is read."""
MOST_BYTES = 2**28
"""Bytes of the largest file that is read, unless the reader says otherwise."""


class FileFacts(BaseModel):
    """What the manifest says of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int = Field(ge=0)


class Manifest(Shown):
    """What the operator signs of a model. Members besides these, such as the run, are kept.

    The state of the ledger that it shows is the one that the model was made at. Its size only grows: it is the version.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1, 2] = 1
    """1 is without proofs: a device takes it into use where it has seen nothing yet, or the very same state."""
    population: str
    algorithm: str
    releases: int
    catalogue: str
    """Hash of the item ids in row order."""
    items: int
    model_hash: str
    """Of `model.safetensors`."""
    files: dict[str, FileFacts]
    unpacked: FileFacts | None = None
    """Of the compact model before it is deflated: what a delta must make."""
    public_key: str

    def names(self, name: str, data: bytes | None) -> bool:
        """Whether these are the bytes that were signed."""
        facts = self.unpacked if name == UNPACKED else self.files.get(name)
        return facts is not None and data is not None and (facts.bytes, facts.sha256) == (len(data), digest(data))

    @property
    def version(self) -> int:
        """A later model of a population has a higher one."""
        return self.checkpoint.size


def read_manifest(files: Mapping[str, bytes], public_key: str) -> Manifest:
    """The manifest, its signature verified.

    Raises:
        IntegrityError: not signed by that key, or no manifest.
    """
    payload, signature = files.get(MANIFEST, b""), files.get(SIGNATURE, b"")
    verify(public_key, MANIFEST_TAG, payload, signature.decode("ascii", errors="replace"))
    try:
        return Manifest.model_validate(read_canonical(payload, most=MOST_SIGNED))
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        raise IntegrityError(f"a manifest must have the members of one, got something else in {wrong}") from None


def evidence_of(files: Mapping[str, bytes]) -> bytes:
    """The signed bytes of a model that verified, as they are kept with the state of the ledger that they show."""
    signature = files[SIGNATURE].decode("ascii")
    return canonical_json({"manifest": read_canonical(files[MANIFEST], most=MOST_SIGNED), "signature": signature})


class FileSource(Protocol):
    """Where the files of a published model are.

    Attributes:
        place: what messages call it.
    """

    @property
    def place(self) -> str:
        """What messages call it."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def get(self, name: str, *, most: int, exactly: int | None = None) -> bytes:
        """A file's bytes: at most so many, or exactly so many.

        Raises:
            IntegrityError: it is none, or of another size.
        """


@dataclass(frozen=True)
class Folder:
    """A folder as a source.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def place(self) -> str:
        """Its path."""
        return str(self.path)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).exists()

    def get(self, name: str, *, most: int, exactly: int | None = None) -> bytes:
        """A file's bytes."""
        return read_file(self.path / name, most=most, exactly=exactly)


def signed_file(source: FileSource, manifest: Manifest, name: str, *, most: int) -> bytes:
    """A file of the size that was signed, which must be bearable.

    Raises:
        IntegrityError: it claims or has another size, or can't be read.
    """
    if manifest.files[name].bytes > most:
        raise IntegrityError(f"{name} must be at most {most} bytes, got a claim of {manifest.files[name].bytes}")
    return source.get(name, most=most, exactly=manifest.files[name].bytes)


def read_file(path: Path, *, most: int, exactly: int | None = None) -> bytes:
    """A file's bytes, if it is a file, and of that size: a claim, a pipe or a device costs no memory.

    Raises:
        IntegrityError: it is none, or of another size.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            size = facts.st_size
            if not stat.S_ISREG(facts.st_mode) or size > most or (exactly is not None and size != exactly):
                expected = f"at most {most}" if exactly is None else str(exactly)
                raise IntegrityError(f"{path.name} must be a file of {expected} bytes, got {size}")
            return file.read(size)
    except OSError:
        raise IntegrityError(
            f"a model folder must hold model, items, manifest and signature, and {path.name} can't be read: {path}"
        ) from None
