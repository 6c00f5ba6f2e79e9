"""Published: a model with its catalogue and a signed manifest, from the operator's folder to a device.

    manifest.json             whose model this is, of which state of the ledger, and hash and size of every other file
    signature                 Ed25519, over manifest.json
    items, domains, new-items       the catalogue, one a line; only `items` is always there
    features.safetensors      public features of the items
    model.safetensors         the model
    model.int8.safetensors.z  the same for download, see `palate_common.compact`; a device needs one of the two

There is one reader, for servers and devices: signature first, then sizes, then hashes, then content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate_common.canonical import canonical_json, digest, read_canonical
from palate_common.catalogue import Catalogue, lines, read_lines
from palate_common.compact import compact, expand
from palate_common.errors import InputError, IntegrityError, PalateError
from palate_common.files import make_folder, write_durably
from palate_common.interactions import Interactions
from palate_common.merkle import Checkpoint
from palate_common.model import GlobalModel
from palate_common.signing import SigningKey, verify

MANIFEST_TAG = "palate/model/1"
MANIFEST, SIGNATURE = "manifest.json", "signature"
ITEMS, DOMAINS, NEW_ITEMS, FEATURES = "items", "domains", "new-items", "features.safetensors"
MODEL, COMPACT = "model.safetensors", "model.int8.safetensors.z"
MOST_SIGNED = 2**16
"""Bytes of the largest manifest, and of the largest signature, that is read."""
MOST_BYTES = 2**28
"""Bytes of the largest file that is read, unless the reader says otherwise."""


class FileFacts(BaseModel):
    """What the manifest says of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int = Field(ge=0)


class Manifest(BaseModel):
    """What the operator signs. Members besides these, such as the run, are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    population: str
    checkpoint: Checkpoint
    """The state of the population's ledger that the model was made at. Its size only grows: it is the version."""
    algorithm: str
    releases: int
    catalogue: str
    """Hash of the item ids in row order."""
    items: int
    model_hash: str
    """Of `model.safetensors`."""
    files: dict[str, FileFacts]
    public_key: str

    @property
    def version(self) -> int:
        """A later model of a population has a higher one."""
        return self.checkpoint.size


@dataclass(frozen=True)
class Published:
    """A model that verified.

    Attributes:
        model: the global model.
        catalogue: its items.
        manifest: what was signed.
        files: name -> bytes, as they were read.
    """

    model: GlobalModel
    catalogue: Catalogue
    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def items(self) -> tuple[str, ...]:
        """Item ids in the model's row order."""
        return self.catalogue.items

    @property
    def domains(self) -> tuple[str, ...] | None:
        """The domain of each item; None: there is only one."""
        return self.catalogue.domains

    @property
    def version(self) -> int:
        """A later model of a population has a higher one."""
        return self.manifest.version


def pack(
    model: GlobalModel,
    catalogue: Catalogue,
    facts: Mapping[str, Any],
    key: SigningKey,
    *,
    population: str,
    checkpoint: Checkpoint,
) -> dict[str, bytes]:
    """The files of a published model, the signature last.

    Args:
        model: the model.
        catalogue: its items.
        facts: what else the manifest says, such as run and privacy.
        key: the release key.
        population: whose model it is.
        checkpoint: of the population's ledger, now.

    Raises:
        IntegrityError: another catalogue than the model's.
    """
    if catalogue.hash != model.header.catalogue:
        raise IntegrityError("`items` must be the catalogue the model was trained on, got another")
    files = {ITEMS: lines(catalogue.items), MODEL: model.data, COMPACT: compact(model)}
    if catalogue.domains is not None:
        files[DOMAINS] = lines(catalogue.domains)
    if catalogue.new_items:
        files[NEW_ITEMS] = lines(catalogue.new_items)
    if catalogue.features is not None:
        files[FEATURES] = safetensors.numpy.save({"features": np.ascontiguousarray(catalogue.features, np.float32)})
    manifest = {
        **facts,
        "population": population,
        "checkpoint": {"size": checkpoint.size, "root": checkpoint.root},
        "algorithm": model.header.algorithm,
        "releases": model.header.releases,
        "catalogue": catalogue.hash,
        "items": len(catalogue.items),
        "model_hash": model.hash,
        "files": {name: {"sha256": digest(data), "bytes": len(data)} for name, data in files.items()},
        "public_key": key.public,
    }
    payload = canonical_json(manifest)
    return files | {MANIFEST: payload, SIGNATURE: key.sign(MANIFEST_TAG, payload).encode()}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a published model's files, each whole; a reader who comes in between sees that they don't fit."""
    make_folder(folder)
    for name in (ITEMS, DOMAINS, NEW_ITEMS, FEATURES, MODEL, COMPACT, MANIFEST, SIGNATURE):
        if name in files:
            write_durably(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def read(folder: Path, *, public_key: str, most: int = MOST_BYTES, small: bool = False) -> Published:
    """Read a published model from a folder, and verify it.

    Args:
        folder: where the files are.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        small: take the compact model where there are both.

    Guarantees:
        No file is opened before the manifest's signature verified, and none is read whose size is not the one that was
        signed, or is above `most`.

    Raises:
        IntegrityError: a file is missing, changed, too large, or not signed by that key; or what was signed is no
            model.
    """

    def get(name: str, most: int, exactly: int | None) -> bytes:
        """One of the files."""
        return _read(folder / name, most=most, exactly=exactly)

    return collect(
        get, lambda name: (folder / name).exists(), public_key=public_key, most=most, small=small, place=str(folder)
    )


def collect(
    get: Callable[[str, int, int | None], bytes],
    has: Callable[[str], bool],
    *,
    public_key: str,
    most: int = MOST_BYTES,
    small: bool = False,
    place: str,
) -> Published:
    """Read a published model from wherever its files are, and verify it.

    Args:
        get: (name, most bytes, exact bytes) -> the file's bytes.
        has: whether there is such a file.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        small: take the compact model where there are both.
        place: what messages call it.

    Raises:
        IntegrityError: as `read`.
    """
    signed = {name: get(name, MOST_SIGNED, None) for name in (MANIFEST, SIGNATURE)}
    manifest = _manifest(signed, public_key)
    models = [name for name in (COMPACT, MODEL) if name in manifest.files and has(name)]
    chosen = models[:1] if small else models[-1:]
    if ITEMS not in manifest.files or not chosen:
        raise IntegrityError(f"a model folder must hold model, items, manifest and signature: {place}")
    wanted = [ITEMS, *chosen, *(name for name in (DOMAINS, NEW_ITEMS, FEATURES) if name in manifest.files)]
    for name in wanted:
        if manifest.files[name].bytes > most:
            raise IntegrityError(f"{name} must be at most {most} bytes, got a claim of {manifest.files[name].bytes}")
    files = {name: get(name, most, manifest.files[name].bytes) for name in wanted}
    return unpack(signed | files, public_key=public_key, most=most)


def unpack(files: Mapping[str, bytes], *, public_key: str, most: int = MOST_BYTES) -> Published:
    """Verify a published model's files.

    Raises:
        IntegrityError: as `read`.
    """
    manifest = _manifest(files, public_key)
    for name, data in files.items():
        if name in (MANIFEST, SIGNATURE):
            continue
        facts = manifest.files.get(name)
        if facts is None or (facts.bytes, facts.sha256) != (len(data), digest(data)):
            raise IntegrityError(f"model and items must be the ones the manifest names, and {name} is not")
    try:
        catalogue = _catalogue(files)
    except (KeyError, ValueError, InputError, safetensors.SafetensorError):
        raise IntegrityError(
            "a published catalogue must be lines of ids, each once, and what belongs to them"
        ) from None
    model = GlobalModel.from_bytes(files[MODEL]) if MODEL in files else expand(files.get(COMPACT, b""), most=most)
    header = model.header
    signed = (manifest.catalogue, manifest.items, manifest.algorithm, manifest.releases)
    found = (header.catalogue, header.facts.n_items, header.algorithm, header.releases)
    same = signed == found == (catalogue.hash, len(catalogue.items), *found[2:])
    if not same or (MODEL in files and model.hash != manifest.model_hash):
        raise IntegrityError("model and items must be the ones the manifest names, and are not")
    _try_out(model)
    return Published(model, catalogue, manifest, dict(files))


def _manifest(files: Mapping[str, bytes], public_key: str) -> Manifest:
    """The manifest, its signature verified."""
    payload, signature = files.get(MANIFEST, b""), files.get(SIGNATURE, b"")
    verify(public_key, MANIFEST_TAG, payload, signature.decode("ascii", errors="replace"))
    try:
        return Manifest.model_validate(read_canonical(payload))
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        raise IntegrityError(f"a manifest must have the members of one, got something else in {wrong}") from None


def _catalogue(files: Mapping[str, bytes]) -> Catalogue:
    """The catalogue's files."""
    features = None
    if FEATURES in files:
        features = safetensors.numpy.load(files[FEATURES])["features"]
        if features.dtype != np.float32 or not np.isfinite(features).all():
            raise ValueError("features are finite float32")
    domains = read_lines(files[DOMAINS]) if DOMAINS in files else None
    return Catalogue(read_lines(files[ITEMS]), domains, read_lines(files.get(NEW_ITEMS, b"")), features)


def _try_out(model: GlobalModel) -> None:
    """A model that can't score somebody without events can't be used at all."""
    nobody = Interactions.from_pairs([], [], n_users=1, n_items=model.header.facts.n_items)
    try:
        scores = np.asarray(model.scores(nobody))
        fits = scores.shape == (1, nobody.n_items) and bool(np.isfinite(scores).all())
    except PalateError:
        raise
    except Exception:
        fits = False
    if not fits:
        raise IntegrityError(f"a model must score its {nobody.n_items} items with finite numbers, and does not")


def _read(path: Path, *, most: int, exactly: int | None = None) -> bytes:
    """A file's bytes, if it is a file, and of that size: a claim, a pipe or a device costs no memory."""
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
