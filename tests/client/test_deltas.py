"""A device that goes from model to model by deltas: as whole, as verified, and with less to download."""

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
    """Three published models, each with deltas from those before it."""
    items, first = tuple(f"item-{row}" for row in range(60)), trained()
    header = first.header.model_copy(update={"catalogue": ItemCatalogue(items).hash})
    folders, former = {}, list[dict[str, bytes]]()
    for version, name in enumerate(FOLDERS, 1):
        turned = {key: -array if key in ("basis", "table") else array for key, array in first.state.items()}
        model = GlobalModel(header, turned if version % 2 else first.state)
        place: dict[str, Any] = {"population": "readers", "shown": Shown.of(LOG, version, since=range(1, version))}
        files = published.pack(model, ItemCatalogue(items), {}, KEY, formers=former, **place)
        published.write(tmp_path / name, files)
        folders[name], former = tmp_path / name, [files, *former]
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


def test_a_device_goes_on_by_deltas_and_its_model_is_the_whole_ones(
    device: palate.Device, open_device: OpenDevice, releases: dict[str, Path], tmp_path: Path
) -> None:
    sizes = []
    for name in FOLDERS:
        names = fetch(device, releases[name], tmp_path / "download")
        assert (published.COMPACT in names) == (name == "one")
        assert device.update_model(tmp_path / "download")
        whole = published.read(releases[name], public_key=KEY.public, small=True)
        found = device.model()
        assert found is not None
        assert found.model.hash == whole.model.hash
        assert (found.catalogue, found.manifest) == (whole.catalogue, whole.manifest)
        sizes.append(sum((releases[name] / each).stat().st_size for each in names))
    assert max(sizes[1:]) < sizes[0]
    device.close()
    again = open_device(service=device.service)
    after = again.model()
    assert after is not None
    assert after.model.hash == whole.model.hash
    assert [edition.version for edition in again.privacy_report().models] == [1, 2, 3]


@pytest.mark.parametrize("attack", ["changed", "missing", "from another", "signature", "older"])
def test_whatever_is_wrong_with_a_delta_the_old_model_stays(
    device: palate.Device, releases: dict[str, Path], tmp_path: Path, attack: str
) -> None:
    place = tmp_path / "download"
    device.update_model(releases["two"])
    before = device.model()
    (delta,) = fetch(device, releases["three"], place)
    if attack == "changed":
        (place / delta).write_bytes((place / delta).read_bytes()[:-1] + b"x")
    elif attack == "missing":
        (place / delta).unlink()
    elif attack == "from another":
        other = next(path for path in releases["two"].glob("delta-*"))
        (place / delta).write_bytes(other.read_bytes())
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
    shutil.copytree(releases["three"], place, dirs_exist_ok=True)  # the whole, which is always there
    assert device.update_model(place)


def test_a_device_without_a_model_or_with_a_damaged_one_asks_for_the_whole(
    device: palate.Device, releases: dict[str, Path], tmp_path: Path
) -> None:
    assert published.COMPACT in fetch(device, releases["three"], tmp_path / "download")
    device.update_model(releases["two"])
    with Journal(device.store.file) as journal, journal._database.transaction(write=True) as connection:
        connection.execute("UPDATE files SET data = x'00' WHERE name = ?", (published.COMPACT,))
    device.models._read = None
    assert published.COMPACT in fetch(device, releases["three"], tmp_path / "download")
    assert device.update_model(tmp_path / "download")
    found = device.model()
    assert found is not None
    assert np.isfinite(found.model.state["counts"]).all()
