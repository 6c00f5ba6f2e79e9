"""Manifest: what an operator signs for a published model, and access to the files that it names.

manifest.json, signature -> read_manifest -> Manifest -> sizes and hashes of all other files
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from palate_common import system
from palate_common.models.item_changes import CHANGES, TABLE
from palate_common.models.rules import RULES
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import Shown
from palate_core.log.entries import PublishEntry, entry_from
from palate_core.log.handovers import MOST_HANDOVERS, Handover, signer_of
from palate_core.log.merkle import verify_inclusion
from palate_core.log.pinned import Pinned
from palate_core.log.signing import verify

MANIFEST_TAG = "palate/model/1"
MANIFEST, SIGNATURE = "manifest.json", "signature"
ITEMS, DOMAINS = "items", "domains"
BESIDE = (ITEMS, DOMAINS, TABLE, CHANGES, RULES)
"""What is published beside a model; only `ITEMS` is always there."""
MODEL, COMPACT = "model.safetensors", "model.int8.safetensors.z"
EXTENDS = "extends"
"""Member that names the model with which a run ended, `model_hash` and `items`, where items were added since."""
STARTS = "starts_from"
"""Member that names a model made elsewhere, `population`, `model_hash`, `public_key` and `users`: see `start_of`."""
MOST_SIGNED = 2**18
"""Bytes of the largest manifest, and of the largest signature, that is read."""
MOST_BYTES = 2**28
"""Bytes of the largest file that is read, unless the reader says otherwise."""


class FileFacts(BaseModel):
    """Hash and size of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int = Field(ge=0)


class Publication(BaseModel):
    """Proof that the ledger has an entry about this very manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: dict[str, Any]
    """The ledger's `publish` entry, the last one of the state that the manifest shows."""
    inclusion: tuple[str, ...] = Field(max_length=64)
    """RFC 9162 inclusion proof of the entry in that state."""


class Manifest(Shown):
    """What the operator signs for a model. Further fields, such as the run, are kept.

    It shows the state of the ledger when the model was made. A ledger's size only grows, so it is the model's version.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: Literal[1, 2, 3, 4] = 1
    """1 has no proofs: a device accepts it only if it has seen no state of the ledger yet, or the very same one. 4 has
    its entry in the ledger, and no other; of those without, 3 has cosignatures or handovers, and no other."""
    population: str
    algorithm: str
    releases: int
    catalogue: str
    """Hash of the item ids in row order."""
    items: int
    model_hash: str
    """SHA-256 of `model.safetensors`."""
    files: dict[str, FileFacts]
    recent_half_life_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """When a device recommends, an event loses half its weight, against others, for each of these; None: it doesn't."""
    unpacked: FileFacts | None = None
    """The compact model before it is deflated, as devices keep it that inflate it once."""
    public_key: str
    publication: Publication | None = Field(default=None, exclude_if=lambda publication: publication is None)
    """Its entry in the ledger; None: it shows none, as those that were published by older servers, or by no server."""

    @model_validator(mode="after")
    def _has_its_format(self) -> Self:
        due = format_of(self, self.publication)
        if self.format != due and (self.format, due) != (1, 2):
            raise ValueError("a manifest of format 4 has its entry, one of 3 cosignatures or handovers, and no other")
        return self

    def names(self, name: str, data: bytes | None) -> bool:
        """Whether these are the signed bytes of a file."""
        facts = self.files.get(name)
        return facts is not None and data is not None and (facts.bytes, facts.sha256) == (len(data), digest(data))

    @property
    def version(self) -> int:
        """A later model of a population has a higher one."""
        return self.checkpoint.size


def read_manifest(files: Mapping[str, bytes], public_key: str) -> Manifest:
    """The manifest, its signature verified.

    Args:
        files: `manifest.json` and `signature`.
        public_key: the release key that the reader trusts; a later one is followed by the manifest's handovers.

    Raises:
        IntegrityError: not signed by that key, or no manifest.
    """
    payload, signature = files.get(MANIFEST, b""), files.get(SIGNATURE, b"")
    signer = _signer(payload, public_key)
    verify(signer, MANIFEST_TAG, payload, signature.decode("ascii", errors="replace"))
    value = read_canonical(payload, most=MOST_SIGNED)
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        raise IntegrityError(f"a manifest must have the members of one, got something else in {wrong}") from None
    if manifest.publication is not None:
        _check_publication(manifest, manifest.publication, said_by(value), signer)
    return manifest


def start_of(manifest: Manifest) -> Mapping[str, Any] | None:
    """What a model says of one made elsewhere that it starts from, with `users`, of which that one was learned.

    It says so as long as fewer people have taken part in its own population: too few yet. None: it says nothing of it.
    """
    said = (manifest.model_extra or {}).get(STARTS)
    return said if isinstance(said, dict) and isinstance(said.get("users"), int) and said["users"] > 0 else None


def elsewhere(manifest: Manifest) -> int | None:
    """Of how many other people a model knows, where too few have taken part in its population; None: enough have.

    0: it was made before anybody took part, and of nothing.
    """
    start = start_of(manifest)
    return start["users"] if start is not None else None if manifest.releases else 0


def learned_by(manifest: Manifest) -> tuple[str, int]:
    """Hash and number of items of the model with which a manifest's run ended.

    They are the manifest's own, unless the model was put over more items since: then it says so (`EXTENDS`).
    """
    match (manifest.model_extra or {}).get(EXTENDS):
        case {"model_hash": str(model_hash), "items": int(items)}:
            return model_hash, items
    return manifest.model_hash, manifest.items


def said_by(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest says: canonical JSON of all members but the state of the ledger and the proofs in it.

    The ledger's entry about a manifest has it. The state has that entry, so it comes later.
    """
    return digest(canonical_json({name: value for name, value in manifest.items() if name not in _OF_THE_STATE}))


def format_of(shown: Shown, publication: Publication | None) -> int:
    """The format of a manifest that shows a state and its entry in it."""
    return 4 if publication is not None else 3 if shown.beyond_proofs else 2


def check_recorded(manifest: Manifest, pinned: Pinned) -> None:
    """Refuse a model that shows no entry of its own, where witnesses are pinned.

    A cosignature is over a state, and public: without the entry, the holder of a former release key could put its own
    model beside a state that the present one has made.

    **Guarantees:** a former key shows no model of its own: witnesses cosign no state of the ledger with an entry about
    it, once they know of the rotation of the release key.

    Args:
        manifest: a manifest that was read, which checks the entry that it shows.
        pinned: what the app pins.

    Raises:
        IntegrityError: it shows none.
    """
    if pinned.quorums and manifest.publication is None:
        raise IntegrityError(
            "a model must show its own entry in the ledger where the app pins witnesses, got none: its server must be "
            "of this version, and publish it again"
        )


def _check_publication(manifest: Manifest, publication: Publication, said: str, signer: str) -> None:
    """Refuse a manifest whose entry is about another one, isn't the last of the state that it shows, or isn't in it.

    Were it any earlier entry, a model of a former key could be shown again in a later state, under a higher version.
    """
    try:
        entry = entry_from(publication.entry)
    except InputError as error:
        raise IntegrityError(f"a publication must be an entry of the ledger, got: {error}") from None
    if not isinstance(entry, PublishEntry) or entry.leaf() != canonical_json(publication.entry):
        raise IntegrityError("a publication must be an entry of the ledger, got another spelling of one, or kind")
    if (entry.manifest, entry.model_hash) != (said, manifest.model_hash):
        raise IntegrityError("a manifest must be the one that its entry in the ledger is about, got another")
    if manifest.public_key != signer:
        raise IntegrityError("a manifest must be signed by the release key that it names, got another's signature")
    now = manifest.checkpoint
    if entry.seq != now.size - 1:
        raise IntegrityError(f"a model's entry must be the last of the {now.size} that it shows, got entry {entry.seq}")
    verify_inclusion(entry.leaf(), index=entry.seq, size=now.size, root=now.root, proof=publication.inclusion)


_OF_THE_STATE: Final = frozenset({*Shown.model_fields, "format", "publication"})


class _Links(BaseModel):
    """What is read of a manifest before it is known who must have signed it."""

    population: str
    handovers: tuple[Handover, ...] = Field(max_length=MOST_HANDOVERS)


def _signer(payload: bytes, public_key: str) -> str:
    """The release key that must have signed a manifest: the pinned one, or the one to which its handovers lead."""
    if b'"handovers":' not in payload:
        return public_key
    try:
        links = _Links.model_validate(read_canonical(payload, most=MOST_SIGNED))
    except (ValidationError, IntegrityError):
        return public_key
    return signer_of(public_key, links.population, links.handovers)


def evidence_of(files: Mapping[str, bytes]) -> bytes:
    """Manifest and signature of a verified model as one JSON, which a device keeps with the ledger's state in it."""
    signature = files[SIGNATURE].decode("ascii")
    return canonical_json({"manifest": read_canonical(files[MANIFEST], most=MOST_SIGNED), "signature": signature})


def files_of(evidence: bytes) -> dict[str, bytes]:
    """Manifest and signature by name, the inverse of `evidence_of`. Nothing is verified.

    Raises:
        IntegrityError: it is something else.
    """
    match read_canonical(evidence, most=2 * MOST_SIGNED):
        case {"manifest": dict(manifest), "signature": str(signature)}:
            return {MANIFEST: canonical_json(manifest), SIGNATURE: signature.encode()}
    raise IntegrityError("a model's evidence must be its manifest and a signature, got something else")


class FileSource(Protocol):
    """Where the files of a published model are."""

    @property
    def place(self) -> str:
        """Its name in error messages."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def get(self, name: str, *, most: int, exactly: int | None = None) -> bytes:
        """A file's bytes: `most` of them at most, and `exactly` so many if that is given.

        Raises:
            IntegrityError: there is no such file, or it has another size.
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
    """Read a file of the signed size, which must be at most `most`.

    Raises:
        IntegrityError: the signed size is larger, the file has another size, or it can't be read.
    """
    if manifest.files[name].bytes > most:
        raise IntegrityError(f"{name} must be at most {most} bytes, got a claim of {manifest.files[name].bytes}")
    return source.get(name, most=most, exactly=manifest.files[name].bytes)


def read_file(path: Path, *, most: int, exactly: int | None = None) -> bytes:
    """The bytes of a regular file. Pipes, devices and files of another size are refused before anything is read.

    Raises:
        IntegrityError: it is no regular file, or has another size.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | system.AT_ONCE)
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
