"""The identities of a simulated run's devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate_core.errors import InputError
from palate_sim.engines.identities import Identities


def test_identities_are_their_owners_alone(tmp_path: Path) -> None:
    made, path = Identities.generate(3), tmp_path / "identities"
    made.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    identities = made.directory([2, 0, 7]).identities
    assert list(identities) == [0, 2]
    assert Identities.load(path).directory([0, 2]).identities == identities
    with pytest.raises(FileExistsError):
        Identities.generate(3).save(path)
    assert Identities.load(path).directory([0, 2]).identities == identities


@pytest.mark.parametrize("content", [None, b"", b"x" * 33])
def test_a_file_that_holds_no_identities_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "identities"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="`identities` must"):
        Identities.load(path)


def test_more_devices_than_masks_can_have_get_no_identities() -> None:
    """At ten million they would take gigabytes, and hours to sign with."""
    with pytest.raises(InputError, match=r"\Amasks must be for at most 1,048,576 devices, got 10,000,000: [^\n]+\Z"):
        Identities.generate(10_000_000)
