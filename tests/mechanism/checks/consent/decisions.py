"""Decisions: what a user has agreed to is their latest decision on it, whatever was decided before.

A user decides in a generated order, dozens of times: agrees to a purpose and takes it back, as shown one text or
another, of earlier versions, later ones and the same; twice in a row; with a clock that jumps. A book keeps the latest
decision on each purpose and nothing else. After each decision the device, a second handle that was open before, and,
now and then, a process that opens a copy of the files have every purpose as the book has it; and all decisions are
told, in their order.

Steps are the same in every audit.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

from palate_client import consent
from palate_client.consent import PURPOSES, Purpose
from palate_client.device import Device, open_device
from palate_common.system import memory_folder

DECISIONS, COPIED = 120, 15
"""How many there are, and after how many the files are copied."""
VERSIONS = ("1", "2", "10", "2026", "2026-11", "a", "A", "é" * 200)
SEED, START = 5, 1_790_000_000.0
JUMPS = (0.0, 1.0, 86_400.0, -86_400.0, -1.0)
"""Seconds between two decisions."""


def decided() -> Iterator[str]:
    """One user, dozens of decisions."""
    rng, now = np.random.default_rng(SEED), [START]
    book, told = dict.fromkeys(PURPOSES, False), list[tuple[Purpose, bool, str]]()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-")))
        device, other = (_opened(stack, home / "app", now) for _ in range(2))
        for number in range(DECISIONS):
            now[0] += float(rng.choice(JUMPS))
            purpose, version = PURPOSES[int(rng.integers(len(PURPOSES)))], str(rng.choice(VERSIONS))
            granted = bool(rng.random() < 0.5)
            (device.consent.grant if granted else device.consent.revoke)(purpose, version=version)
            book[purpose] = granted
            told.append((purpose, granted, version))
            for who, each in (("here", device), ("in another handle", other)):
                yield from _differs(each, book, f"decision {number}", who)
            if number % COPIED == 0:
                shutil.copytree(home / "app", home / str(number))
                with ExitStack() as copies:  # what a process finds that starts: no copy, in which nothing is agreed to
                    copies.enter_context(mock.patch.object(consent, "_is_copy", return_value=False))
                    copy = _opened(copies, home / str(number), now)
                    yield from _differs(copy, book, f"decision {number}", "in a process that starts")
        if [(each.purpose, each.granted, each.version) for each in device.consent.history()] != told:
            yield f"{len(told)} decisions were made, and others are told"


def _opened(stack: ExitStack, folder: Path, now: list[float]) -> Device:
    return stack.enter_context(open_device(folder, app="audit", key=bytes(range(32)), clock=lambda: now[0]))


def _differs(device: Device, book: dict[Purpose, bool], after: str, who: str) -> Iterator[str]:
    """Purposes that aren't as the book has them."""
    for purpose, granted in book.items():
        if device.consent.get(purpose) != granted:
            yield f"after {after} `{purpose}` is {'denied' if granted else 'granted'} {who}, and was decided otherwise"
