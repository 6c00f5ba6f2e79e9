"""Published model: a model with its catalogue and a signed manifest, from the operator's folder to a device.

    manifest.json             whose model this is, of which state of the ledger, and hash and size of every other file
    signature                 Ed25519, over manifest.json
    items, domains            the catalogue, one a line; only `items` is always there
    item-table.z              what else is public about them, see `palate_common.models.item_table`
    item-changes.z            what has changed of that since, see `palate_common.models.item_changes`
    rules.json                what the operator wants of lists, see `palate_common.models.rules`
    model.safetensors         the model
    model.int8.safetensors.z  the same for download, see `palate_common.models.compact`; a device needs one of the two

Servers and devices share one reader, which checks signature, sizes, hashes and content, in this order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from palate_common.interactions import Interactions
from palate_common.models.catalogue import ItemCatalogue, lines, read_lines
from palate_common.models.compact import compact_unpacked, deflate, expand, most_of
from palate_common.models.item_changes import CHANGES, TABLE, files_of, table_from
from palate_common.models.item_table import ItemTable
from palate_common.models.manifest import (
    BESIDE,
    COMPACT,
    DOMAINS,
    ITEMS,
    MANIFEST,
    MANIFEST_TAG,
    MODEL,
    MOST_BYTES,
    MOST_SIGNED,
    SIGNATURE,
    FileFacts,
    FileSource,
    Folder,
    Manifest,
    Publication,
    elsewhere,
    format_of,
    read_file,
    read_manifest,
    said_by,
    signed_file,
)
from palate_common.models.model import GlobalModel
from palate_common.models.rules import RULES, Rule, rules_from_bytes, rules_to_bytes
from palate_common.records.files import make_folder, write_durably
from palate_core.errors import InputError, IntegrityError, PalateError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown
from palate_core.log.signing import SigningKey

__all__ = [
    "CHANGES",
    "COMPACT",
    "DOMAINS",
    "ITEMS",
    "MANIFEST",
    "MANIFEST_TAG",
    "MODEL",
    "RULES",
    "SIGNATURE",
    "TABLE",
    "Contents",
    "FileFacts",
    "Manifest",
    "Published",
    "collect",
    "contents",
    "model_folder",
    "pack",
    "read",
    "read_named",
    "unpack",
    "wanted_files",
    "write",
]


@dataclass(frozen=True)
class Published:
    """A verified model.

    Attributes:
        model: the global model.
        catalogue: its items.
        manifest: what was signed.
        files: name -> bytes, as they were read.
    """

    model: GlobalModel
    catalogue: ItemCatalogue
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

    @property
    def elsewhere(self) -> int | None:
        """Of how many other people it knows, where too few have taken part in its population; None: enough have."""
        return elsewhere(self.manifest)

    @cached_property
    def table(self) -> ItemTable | None:
        """Titles and other facts of `items`; None: none were published.

        Raises:
            IntegrityError: what was signed is no table of these items.
        """
        return table_from(self.files, self.items)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What the operator wants of every list.

        Raises:
            IntegrityError: what was signed are no rules.
        """
        return rules_from_bytes(self.files[RULES]) if RULES in self.files else ()


@dataclass(frozen=True)
class Contents:
    """What is published: files, and what their manifest says before it shows the ledger.

    Attributes:
        files: name -> bytes.
        said: members of the manifest.
    """

    files: Mapping[str, bytes] = field(repr=False)
    said: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """What the ledger's entry about the manifest has of it."""
        return said_by(self.said)

    def also(self, **facts: Any) -> Contents:
        """The same with further members of the manifest, or others."""
        return Contents(self.files, {**self.said, **facts})

    def sign(self, key: SigningKey, shown: Shown, publication: Publication | None = None) -> dict[str, bytes]:
        """The files of the published model, the signature last.

        Args:
            key: the release key.
            shown: the ledger's state: after the entry about this manifest, if there is one.
            publication: that entry, with its proof.
        """
        proof = {} if publication is None else {"publication": publication.model_dump(mode="json")}
        state = {**shown.model_dump(mode="json"), "format": format_of(shown, publication), **proof}
        payload = canonical_json({**self.said, **state})
        return {**self.files, MANIFEST: payload, SIGNATURE: key.sign(MANIFEST_TAG, payload).encode()}


def pack(
    model: GlobalModel,
    catalogue: ItemCatalogue,
    facts: Mapping[str, Any],
    key: SigningKey,
    *,
    population: str,
    shown: Shown,
    table: ItemTable | None = None,
    rules: Sequence[Rule] = (),
    former: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, bytes]:
    """The files of a published model, the signature last.

    Args:
        model: the model.
        catalogue: its items.
        facts: further fields of the manifest, such as run and privacy.
        key: the release key.
        population: whose model it is.
        shown: the ledger's present state: `Ledger.shown()`.
        table: what else is public about the items; those that it lacks have no facts.
        rules: what the operator wants of every list.
        former: files of the model before it, of which devices have the item table.

    Raises:
        IntegrityError: another catalogue than the model's.
    """
    made = contents(
        model,
        catalogue,
        facts,
        population=population,
        public_key=key.public,
        table=table,
        rules=rules,
        former=former,
    )
    return made.sign(key, shown)


def contents(
    model: GlobalModel,
    catalogue: ItemCatalogue,
    facts: Mapping[str, Any],
    *,
    population: str,
    public_key: str,
    table: ItemTable | None = None,
    rules: Sequence[Rule] = (),
    former: Mapping[str, bytes] = MappingProxyType({}),
) -> Contents:
    """What is published of a model.

    Args:
        model: the model.
        catalogue: its items.
        facts: further members of the manifest.
        population: whose model it is.
        public_key: the release key that will sign it.
        table: as for `pack`.
        rules: as for `pack`.
        former: as for `pack`.

    Raises:
        IntegrityError: as `pack`.
    """
    if catalogue.hash != model.header.catalogue:
        raise IntegrityError("`items` must be the catalogue the model was trained on, got another")
    plain = compact_unpacked(model)
    files = {ITEMS: lines(catalogue.items), MODEL: model.data, COMPACT: deflate(plain)}
    if catalogue.domains is not None:
        files[DOMAINS] = lines(catalogue.domains)
    if table is not None:
        files |= files_of(table.over(catalogue.items), former)
    if rules:
        files[RULES] = rules_to_bytes(rules)
    said = {
        **facts,
        "population": population,
        "algorithm": model.header.algorithm,
        "releases": model.header.releases,
        "catalogue": catalogue.hash,
        "items": len(catalogue.items),
        "model_hash": model.hash,
        "files": {name: {"sha256": digest(data), "bytes": len(data)} for name, data in files.items()},
        "unpacked": {"sha256": digest(plain), "bytes": len(plain)},
        "public_key": public_key,
    }
    return Contents(files, said)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a published model's files, each atomically; a reader in between sees that they don't fit together."""
    make_folder(folder)
    for name in (*BESIDE, MODEL, COMPACT, MANIFEST, SIGNATURE):
        if name in files:
            write_durably(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def read(
    folder: Path,
    *,
    public_key: str,
    most: int = MOST_BYTES,
    small: bool = False,
    have: Mapping[str, bytes] | None = None,
) -> Published:
    """Read a published model from a folder, and verify it.

    Args:
        folder: where the files are.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        small: take the compact model where there are both.
        have: files of a model in use. Unchanged files that the folder lacks are taken from it.

    **Guarantees:** another key is refused before anything else is read: the signature is verified first.
    **Guarantees:** a signed claim of ten gigabytes is refused before the file is opened: as is any size above `most`,
    and any that isn't the signed one.

    Raises:
        IntegrityError: a file is missing, changed, too large, or not signed by that key; or what was signed is no
            model.
    """
    return collect(Folder(folder), public_key=public_key, most=most, small=small, have=have)


def read_named(folder: Path, name: str) -> Published:
    """Read the model of a run's folder, or in a folder of its own, by the key that its manifest names.

    Args:
        folder: where it is.
        name: what names the folder, for messages.

    Raises:
        InputError: there is none, or it isn't as it was signed.
    """
    place = model_folder(folder)
    try:
        said = json.loads(read_file(place / MANIFEST, most=MOST_SIGNED)) if (place / MANIFEST).exists() else {}
        return read(place, public_key=str(said["public_key"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"`{name}` must be the folder of a run or of its model, got {str(folder)!r:.200}") from None
    except IntegrityError as error:
        raise InputError(f"`{name}` must be a release as it was signed: {error}") from None


def model_folder(path: Path) -> Path:
    """Where the model lies: in a run's folder, or in this one itself."""
    return path / "model" if (path / "model").is_dir() else path


def collect(
    source: FileSource,
    *,
    public_key: str,
    most: int = MOST_BYTES,
    small: bool = False,
    have: Mapping[str, bytes] | None = None,
) -> Published:
    """Read a published model from wherever its files are, and verify it.

    Args:
        source: where they are.
        public_key: the release key, pinned.
        most: bytes of the largest file that is read.
        small: take the compact model where there are both.
        have: files of a model in use, as for `read`.

    Raises:
        IntegrityError: as `read`.
    """
    signed = {name: source.get(name, most=MOST_SIGNED) for name in (MANIFEST, SIGNATURE)}
    manifest = read_manifest(signed, public_key)
    kept = {name: data for name, data in (have or {}).items() if not source.has(name) and manifest.names(name, data)}
    models = [name for name in (COMPACT, MODEL) if name in manifest.files and (name in kept or source.has(name))]
    chosen = models[:1] if small else models[-1:]
    if ITEMS not in manifest.files or not chosen:
        raise IntegrityError(f"a model folder must hold model, items, manifest and signature: {source.place}")
    names = [*(name for name in BESIDE if name in manifest.files), *chosen]
    files = {name: kept[name] if name in kept else signed_file(source, manifest, name, most=most) for name in names}
    found = unpack(signed | files, public_key=public_key, most=most)
    _ = found.table, found.rules  # what can't be read is refused before the model is used
    return found


def wanted_files(signed: Mapping[str, bytes], *, public_key: str, have: Mapping[str, bytes]) -> tuple[str, ...]:
    """Names of the files that a device needs besides manifest and signature, without those that it has.

    Args:
        signed: manifest and signature.
        public_key: the release key, pinned.
        have: files of the model in use.

    Raises:
        IntegrityError: not signed by that key, or no manifest.
    """
    manifest = read_manifest(signed, public_key)
    model = COMPACT if COMPACT in manifest.files else MODEL
    needed = [*(name for name in BESIDE if name in manifest.files), model]
    return tuple(name for name in needed if not manifest.names(name, have.get(name)))


def unpack(files: Mapping[str, bytes], *, public_key: str, most: int = MOST_BYTES) -> Published:
    """Verify a published model's files.

    Raises:
        IntegrityError: as `read`.
    """
    manifest = read_manifest(files, public_key)
    for name, data in files.items():
        if name in (MANIFEST, SIGNATURE):
            continue
        if not manifest.names(name, data):
            raise IntegrityError(f"model and items must be the ones the manifest names, and {name} is not")
    try:
        catalogue = _catalogue(files, manifest.items)
    except (KeyError, ValueError, InputError):
        raise IntegrityError(
            "a published catalogue must be lines of ids, each once, and what belongs to them"
        ) from None
    model = _model(files, most=min(most, most_of(len(catalogue.items))))
    header = model.header
    signed = (manifest.catalogue, manifest.items, manifest.algorithm, manifest.releases)
    found = (header.catalogue, header.facts.n_items, header.algorithm, header.releases)
    same = signed == found == (catalogue.hash, len(catalogue.items), *found[2:])
    if not same or (MODEL in files and model.hash != manifest.model_hash):
        raise IntegrityError("model and items must be the ones the manifest names, and are not")
    _try_out(model)
    return Published(model, catalogue, manifest, dict(files))


def _catalogue(files: Mapping[str, bytes], items: int) -> ItemCatalogue:
    """Read the catalogue's files; the number of lines must be the manifest's, before the split."""
    for name in (ITEMS, DOMAINS):
        if name in files and files[name].count(b"\n") != items:
            raise ValueError(f"{name} has another number of lines")
    domains = read_lines(files[DOMAINS]) if DOMAINS in files else None
    return ItemCatalogue(read_lines(files[ITEMS]), domains)


def _model(files: Mapping[str, bytes], *, most: int) -> GlobalModel:
    """The model in one of its two forms."""
    if MODEL in files:
        return GlobalModel.from_bytes(files[MODEL])
    return expand(files.get(COMPACT, b""), most=most)


def _try_out(model: GlobalModel) -> None:
    """Refuse a model that can't score a user without events, which can't be used at all, or whose links are none."""
    nobody = Interactions.from_pairs([], [], n_users=1, n_items=model.header.facts.n_items)
    try:
        factors = model.algorithm.factors(model.state)
        for source, links in (factors.links if factors is not None else {}).items():
            links.check(source, nobody.n_items)
        scores = np.asarray(model.scores(nobody))
        fits = scores.shape == (1, nobody.n_items) and bool(np.isfinite(scores).all())
    except PalateError:
        raise
    except Exception:
        fits = False
    if not fits:
        raise IntegrityError(f"a model must score its {nobody.n_items} items with finite numbers, and does not")
