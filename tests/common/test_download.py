"""What a device fetches of a published model: what it lacks, and nothing that it has."""

from __future__ import annotations

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


def packed(seed: int, items: tuple[str, ...] = ITEMS) -> Files:
    place: dict[str, Any] = {"population": "readers", "shown": Shown(checkpoint=Checkpoint(3 + seed, f"{seed:064x}"))}
    return published.pack(model(seed, items), ItemCatalogue(items), {}, KEY, **place)


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
    return {name: data for name, data in files.items() if name != published.MODEL}


def test_a_device_fetches_what_has_changed_and_nothing_else() -> None:
    first, second, grown = packed(0), packed(1), packed(2, items=(*ITEMS, "new"))
    assert wanted(first, {}) == (published.ITEMS, published.COMPACT)
    assert wanted(second, in_use(first)) == (published.COMPACT,)
    assert wanted(grown, in_use(second)) == (published.ITEMS, published.COMPACT)


def test_the_same_model_under_a_new_manifest_costs_no_download(tmp_path: Path) -> None:
    first, later = packed(0), packed(2)
    assert wanted(later, in_use(first)) == ()
    assert read(fetched(tmp_path / "again", later, ()), in_use(first)).version == 5


def test_what_is_not_the_same_is_not_taken_from_what_is_in_use(tmp_path: Path) -> None:
    first = packed(0)
    other = packed(1, items=tuple(reversed(ITEMS)))
    folder = fetched(tmp_path / "folder", other, (published.COMPACT,))
    with pytest.raises(IntegrityError, match="items"):
        read(folder, in_use(first))
