"""What a device fetches of a published model, and that a delta takes it where the whole would have."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate_common.algorithms import PublicFacts
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json, digest, read_canonical
from palate_core.log.consistency import Shown
from palate_core.log.merkle import Checkpoint
from palate_core.log.signing import SigningKey

KEY = SigningKey.generate()
ITEMS = tuple(f"item-{row}" for row in range(500))
Files = dict[str, bytes]


def model(seed: int, items: tuple[str, ...] = ITEMS) -> GlobalModel:
    """Counts that change a little from one seed to the next."""
    facts = PublicFacts(n_users=9, n_items=len(items), mu=1.0)
    header = ModelHeader(
        algorithm="popularity", settings={}, facts=facts, releases=1, catalogue=ItemCatalogue(items).hash
    )
    return GlobalModel(header, {"counts": np.float32(1000 - np.arange(len(items)) + seed % 2)})


def packed(seed: int, *formers: Mapping[str, bytes], items: tuple[str, ...] = ITEMS) -> Files:
    place: dict[str, Any] = {"population": "readers", "shown": Shown(checkpoint=Checkpoint(3 + seed, f"{seed:064x}"))}
    return published.pack(model(seed, items), ItemCatalogue(items), {}, KEY, formers=formers, **place)


def signed_again(files: Files, **changes: Any) -> Files:
    """The files under a manifest that names them as they are: an operator that errs, or lies, with its own key."""
    there = {name: data for name, data in files.items() if name not in (published.MANIFEST, published.SIGNATURE)}
    facts = {name: {"sha256": digest(data), "bytes": len(data)} for name, data in there.items()}
    payload = canonical_json({**read_canonical(files[published.MANIFEST], most=2**20), "files": facts, **changes})
    return signed(files, payload)


def signed(files: Files, payload: bytes) -> Files:
    """The files under this manifest."""
    signature = KEY.sign(published.MANIFEST_TAG, payload).encode()
    return {**files, published.MANIFEST: payload, published.SIGNATURE: signature}


def delta_of(files: Mapping[str, bytes]) -> str:
    (name,) = (name for name in files if name.startswith("delta-"))
    return name


def wanted(files: Files, have: Mapping[str, bytes]) -> tuple[str, ...]:
    told = {name: files[name] for name in (published.MANIFEST, published.SIGNATURE)}
    return published.wanted_files(told, public_key=KEY.public, have=have)


def fetched(folder: Path, files: Files, names: tuple[str, ...]) -> Path:
    """A folder with manifest, signature and these files."""
    folder.mkdir()
    for name in (published.MANIFEST, published.SIGNATURE, *names):
        (folder / name).write_bytes(files[name])
    return folder


def read(folder: Path, have: Mapping[str, bytes], **changes: Any) -> published.Published:
    return published.read(folder, **{"public_key": KEY.public, "small": True, "have": have, **changes})


def in_use(files: Files) -> Files:
    """What a device keeps of a whole compact model."""
    return {name: data for name, data in files.items() if name != published.MODEL and not name.startswith("delta-")}


def test_a_device_fetches_the_least(tmp_path: Path) -> None:
    first = packed(0)
    second = packed(1, first)
    assert wanted(first, {}) == (published.ITEMS, published.COMPACT)
    assert wanted(second, {}) == (published.ITEMS, published.COMPACT)
    assert wanted(second, in_use(first)) == (delta_of(second),)
    assert wanted(second, in_use(second)) == ()
    grown = packed(2, second, items=(*ITEMS, "new"))
    assert wanted(grown, in_use(second)) == (published.ITEMS, delta_of(grown))
    assert wanted(grown, in_use(first)) == (published.ITEMS, published.COMPACT)  # no delta from there
    assert len(second[delta_of(second)]) < len(second[published.COMPACT])


def test_a_delta_gives_what_the_whole_gives(tmp_path: Path) -> None:
    first = packed(0)
    second = packed(1, first)
    whole = read(fetched(tmp_path / "whole", second, wanted(second, {})), {})
    found = read(fetched(tmp_path / "delta", second, wanted(second, in_use(first))), in_use(first))
    assert found.model.hash == whole.model.hash
    assert found.catalogue == whole.catalogue
    assert published.inflate_compact(found.files) == published.inflate_compact(whole.files)
    again = published.unpack(found.files, public_key=KEY.public)  # as a device reads it after a restart
    assert again.model.hash == whole.model.hash
    third = packed(2, second, first)
    last = read(fetched(tmp_path / "third", third, wanted(third, found.files)), found.files)
    assert np.array_equal(last.model.state["counts"], read(fetched(
        tmp_path / "third whole", third, wanted(third, {})), {}).model.state["counts"])  # fmt: skip


def test_the_same_model_under_a_new_manifest_costs_no_download(tmp_path: Path) -> None:
    first, later = packed(0), packed(2)
    assert wanted(later, in_use(first)) == ()
    assert read(fetched(tmp_path / "again", later, ()), in_use(first)).version == 5


def test_a_delta_no_smaller_than_the_whole_is_not_published() -> None:
    strange = published.pack(
        model(0), ItemCatalogue(ITEMS), {}, KEY, population="readers", shown=Shown(checkpoint=Checkpoint(3, "ab" * 32)),
        formers=[packed(0, items=("a", "b"))],
    )  # fmt: skip
    noise = GlobalModel(model(0).header, {"counts": np.random.default_rng(0).random(500).astype(np.float32)})
    place: dict[str, Any] = {"population": "readers", "shown": Shown(checkpoint=Checkpoint(4, "cd" * 32))}
    other = published.pack(noise, ItemCatalogue(ITEMS), {}, KEY, formers=[strange], **place)
    for files in (strange, other):
        for name in (name for name in files if name.startswith("delta-")):
            assert len(files[name]) < len(files[published.COMPACT])


@pytest.mark.parametrize("whole_is_there", [False, True])
@pytest.mark.parametrize("attack", ["changed", "cut", "bomb", "another", "wrong result", "ten gigabytes", "a claim"])
def test_a_delta_that_does_not_fit_is_refused_and_the_whole_taken(
    tmp_path: Path, attack: str, whole_is_there: bool
) -> None:
    first = packed(0)
    second = packed(1, first)
    name, have = delta_of(second), in_use(first)
    files = dict(second)
    unpacked = read_canonical(second[published.MANIFEST], most=2**20)["unpacked"]
    if attack == "changed":
        files[name] = files[name][:50] + bytes([files[name][50] ^ 1]) + files[name][51:]
    elif attack == "cut":
        files[name] = files[name][:-1]
    elif attack == "bomb":
        files = signed_again({**files, name: zlib.compress(b"\0" * 10**8, 9)})
    elif attack == "another":  # signed, but from another base
        files = signed_again({**files, name: (late := packed(1, packed(0, items=(*ITEMS, "more"))))[delta_of(late)]})
    elif attack == "wrong result":
        files = signed_again(files, unpacked={**unpacked, "sha256": digest(b"another model")})
    elif attack == "a claim":
        files = signed_again(files, unpacked={**unpacked, "bytes": 10**10})
    folder = fetched(tmp_path / "folder", files, (name, *((published.COMPACT,) if whole_is_there else ())))
    if attack == "ten gigabytes":
        with (folder / name).open("r+b") as file:
            file.truncate(10**10)
    if whole_is_there:
        assert read(folder, have, most=10**7).model.hash == read(fetched(
            tmp_path / "whole", second, (published.COMPACT, published.ITEMS)), {}).model.hash  # fmt: skip
    else:
        with pytest.raises(IntegrityError):
            read(folder, have, most=10**7)


def test_what_is_not_the_same_is_not_taken_from_what_is_in_use(tmp_path: Path) -> None:
    first = packed(0)
    other = packed(1, items=tuple(reversed(ITEMS)))
    folder = fetched(tmp_path / "folder", other, (published.COMPACT,))
    with pytest.raises(IntegrityError, match="items"):
        read(folder, in_use(first))


def test_a_manifest_without_the_member_is_read_as_before(tmp_path: Path) -> None:
    files = signed_again(packed(1, packed(0)))
    said = read_canonical(files[published.MANIFEST], most=2**20)
    del said["unpacked"]
    files = signed(files, canonical_json(said))
    assert wanted(files, in_use(packed(0))) == (published.COMPACT,)
    assert read(fetched(tmp_path / "folder", files, wanted(files, {})), in_use(packed(0))).version == 4


def test_a_folder_keeps_no_delta_that_is_not_signed(tmp_path: Path) -> None:
    first = packed(0)
    second = packed(1, first)
    published.write(tmp_path / "model", second)
    assert (tmp_path / "model" / delta_of(second)).exists()
    published.write(tmp_path / "model", first)
    assert not list((tmp_path / "model").glob("delta-*"))
