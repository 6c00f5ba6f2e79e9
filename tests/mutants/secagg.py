"""Mutants of secure aggregation: foretold or reused secrets, bare coordinates, two signatures, baseless strikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

from mutants.mutant import mutant
from palate_core.device import attempt as masked
from palate_core.device import checks as masked_checks
from palate_core.masks import boxes
from palate_core.masks import ring_cohort as cohort
from palate_core.masks.agreement import KeyPair

Latch = Callable[[str, str], None]


@mutant(
    "one key for all boxes",
    bug="a device makes all of its boxes with one key pair, so that opening one of them opens all",
    seen="a key pair a deal, to save time",
    test="masks",
)
def one_key() -> Iterator[None]:
    real, kept = boxes.make_box, dict[tuple[bytes, str], KeyPair]()

    def instead(label: Any, shares: bytes, identity: Any) -> Any:
        place = label.binding, identity.public
        if place not in kept:
            kept[place] = KeyPair.generate()
        with mock.patch.object(KeyPair, "generate", staticmethod(lambda: kept[place])):
            return real(label, shares, identity)

    with mock.patch.object(masked, "make_box", instead):
        yield


@mutant(
    "losses before and after masking counted apart",
    bug="a stretch of the ring is missing as a whole, a part of it before a device masks, and the device signs",
    seen="who is missing looked at once for each list, as each list is new",
    test="masks",
)
def losses_apart() -> Iterator[None]:
    real, first = masked_checks.no_cut, WeakKeyDictionary[cohort.Cohort, Any]()

    def no_cut(of: cohort.Cohort, flags: Any) -> None:
        earlier = first.setdefault(of, flags)
        real(of, flags if earlier is flags else flags | ~earlier)

    with mock.patch.object(masked_checks, "no_cut", no_cut):
        yield
