"""Download: which files of a published model a device fetches, and how it applies a delta to the model it has.

manifest, files in use -> wanted -> the least to fetch;   delta, files in use -> from_delta -> the new model
"""

from __future__ import annotations

from collections.abc import Mapping

from palate_common.models.compact import inflate
from palate_common.models.delta import apply_delta
from palate_common.models.manifest import (
    BESIDE,
    COMPACT,
    MODEL,
    MOST_BYTES,
    UNPACKED,
    FileSource,
    Manifest,
    read_manifest,
    signed_file,
)
from palate_core.errors import IntegrityError
from palate_core.log.canonical import digest


def inflate_compact(files: Mapping[str, bytes], *, most: int = MOST_BYTES) -> bytes | None:
    """The decompressed compact model among the files; None where there is only the full model.

    Raises:
        IntegrityError: it can't be decompressed.
    """
    if UNPACKED in files:
        return files[UNPACKED]
    return inflate(files[COMPACT], most=most, noun="a compact model") if COMPACT in files else None


def delta_name(base: bytes) -> str:
    """Name of the file with the delta from this decompressed model."""
    return f"delta-{digest(base)}.z"


def wanted_files(signed: Mapping[str, bytes], *, public_key: str, have: Mapping[str, bytes]) -> tuple[str, ...]:
    """Names of the files that a device needs besides manifest and signature, as few bytes as possible.

    Args:
        signed: manifest and signature.
        public_key: the release key, pinned.
        have: files of the model in use; unchanged ones are not fetched again.

    Raises:
        IntegrityError: not signed by that key, or no manifest.
    """
    manifest = read_manifest(signed, public_key)
    beside = [name for name in BESIDE if name in manifest.files]
    missing = [name for name in beside if not manifest.names(name, have.get(name))]
    base = inflate_compact(have)
    if base is not None and manifest.unpacked is not None:
        if manifest.unpacked.sha256 == digest(base):
            return tuple(missing)
        if delta_name(base) in manifest.files:
            return (*missing, delta_name(base))
    return (*missing, COMPACT if COMPACT in manifest.files else MODEL)


def from_delta(
    source: FileSource, manifest: Manifest, have: Mapping[str, bytes], *, most: int, needed: bool
) -> dict[str, bytes]:
    """Name -> bytes of the model that a delta makes from the one in use; empty where there is no such delta.

    Args:
        source: the published files.
        manifest: verified.
        have: files of the model in use.
        most: largest size of a file in bytes, compressed or not.
        needed: whether there is no whole model, so that a delta that doesn't fit is an error.

    Raises:
        IntegrityError: a needed delta doesn't fit.
    """
    facts, base = manifest.unpacked, inflate_compact(have, most=most)
    if base is None or facts is None:
        return {}
    if facts.sha256 == digest(base):
        return {UNPACKED: base}
    name = delta_name(base)
    if name not in manifest.files or not source.has(name):
        return {}
    try:
        if facts.bytes > most:
            raise IntegrityError(f"a model must be at most {most} bytes unpacked, got a claim of {facts.bytes}")
        delta = signed_file(source, manifest, name, most=most)
        if not manifest.names(name, delta):
            raise IntegrityError("a delta must be the one the manifest names, and is not")
        made = apply_delta(base, delta, most=most)
        if not manifest.names(UNPACKED, made):
            raise IntegrityError("a delta must make the model that the manifest names, and does not")
    except IntegrityError:
        if needed:
            raise
        return {}
    return {UNPACKED: made}
