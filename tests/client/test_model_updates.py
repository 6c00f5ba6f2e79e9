"""A device that goes from model to model: what it asks for, and that the old one stays until the new one is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import palate
from palate_client.store.journal import Journal
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_core.errors import IntegrityError, RefusedError
from palate_core.log.consistency import Shown
from palate_core.log.merkle import MerkleTree
from palate_core.log.signing import SigningKey

OpenDevice = Callable[..., palate.Device]
KEY = SigningKey.generate()
FOLDERS = ("one", "two", "three")
LOG = MerkleTree([b"a", b"b", b"c"])


@pytest.fixture
def releases(trained: Callable[..., GlobalModel], tmp_path: Path) -> dict[str, Path]:
    """Three published models; the third is the first one again, in a later state of the ledger."""
    items, first = tuple(f"item-{row}" for row in range(60)), trained()
    header = first.header.model_copy(update={"catalogue": ItemCatalogue(items).hash})
    folders = {}
    for version, name in enumerate(FOLDERS, 1):
        turned = {key: -array if key in ("basis", "table") else array for key, array in first.state.items()}
        model = GlobalModel(header, turned if version % 2 else first.state)
        place: dict[str, Any] = {"population": "readers", "shown": Shown.of(LOG, version, since=range(1, version))}
        published.write(tmp_path / name, published.pack(model, ItemCatalogue(items), {}, KEY, **place))
        folders[name] = tmp_path / name
    return folders


def fetch(device: palate.Device, origin: Path, place: Path) -> list[str]:
    """What an app does: two files, then the ones that the device names."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in (published.MANIFEST, published.SIGNATURE):
        shutil.copy(origin / name, place)
    names = list(device.files_to_download(place))
    for name in names:
        shutil.copy(origin / name, place)
    return names


@pytest.fixture
def device(open_device: OpenDevice) -> palate.Device:
    return open_device(service=palate.Service(public_key=KEY.public, population="readers"))


def test_a_device_asks_for_what_has_changed_and_its_model_is_the_published_one(
    device: palate.Device, open_device: OpenDevice, releases: dict[str, Path], tmp_path: Path
) -> None:
    for name in FOLDERS:
        names = fetch(device, releases[name], tmp_path / "download")
        assert names == ([published.ITEMS, published.COMPACT] if name == "one" else [published.COMPACT])
        assert device.update_model(tmp_path / "download")
        whole = published.read(releases[name], public_key=KEY.public, small=True)
        found = device.model()
        assert found is not None
        assert found.model.hash == whole.model.hash
        assert (found.catalogue, found.manifest) == (whole.catalogue, whole.manifest)
    device.close()
    again = open_device(service=device.service)
    after = again.model()
    assert after is not None
    assert after.model.hash == whole.model.hash
    assert [edition.version for edition in again.privacy_report().models] == [1, 2, 3]


@pytest.mark.parametrize("attack", ["changed", "missing", "of another", "signature", "older"])
def test_whatever_is_wrong_with_a_download_the_old_model_stays(
    device: palate.Device, releases: dict[str, Path], tmp_path: Path, attack: str
) -> None:
    place = tmp_path / "download"
    device.update_model(releases["two"])
    before = device.model()
    (name,) = fetch(device, releases["three"], place)
    if attack == "changed":
        (place / name).write_bytes((place / name).read_bytes()[:-1] + b"x")
    elif attack == "missing":
        (place / name).unlink()
    elif attack == "of another":
        shutil.copy(releases["two"] / name, place)
    elif attack == "signature":
        (place / published.SIGNATURE).write_bytes(b"00" * 64)
    else:
        shutil.copytree(releases["one"], place, dirs_exist_ok=True)
    with pytest.raises((IntegrityError, RefusedError)) as caught:
        device.update_model(place)
    after = device.model()
    assert before is not None
    assert after is not None
    assert (after.model.hash, after.version) == (before.model.hash, 2)
    (refusal,) = device.privacy_report().refusals
    assert refusal.reason == str(caught.value)
    shutil.copytree(releases["three"], place, dirs_exist_ok=True)
    assert device.update_model(place)


def test_a_device_without_a_model_or_with_a_damaged_one_asks_for_the_whole(
    device: palate.Device, releases: dict[str, Path], tmp_path: Path
) -> None:
    assert fetch(device, releases["three"], tmp_path / "download") == [published.ITEMS, published.COMPACT]
    device.update_model(releases["two"])
    with Journal(device.store.file) as journal, journal._database.transaction(write=True) as connection:
        connection.execute("UPDATE files SET data = x'00' WHERE name = ?", (published.COMPACT,))
    device.models._read = None
    assert fetch(device, releases["three"], tmp_path / "download") == [published.ITEMS, published.COMPACT]
    assert device.update_model(tmp_path / "download")
    found = device.model()
    assert found is not None
    assert np.isfinite(found.model.state["counts"]).all()
