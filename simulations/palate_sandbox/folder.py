"""Folder: where a sandbox's server and stores are while it lives; gone afterwards, however it ends.

>>> with sandbox_folder() as made:
...     made.is_dir()
True
>>> made.exists()
False
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate_sim.scratch import remove, scratch_folder

PREFIX = "palate-sandbox-"


@contextmanager
def sandbox_folder() -> Iterator[Path]:
    """A new folder for one sandbox; those of sandboxes that were killed are removed before."""
    made, lock = scratch_folder(Path(tempfile.gettempdir()), PREFIX)
    try:
        yield made
    finally:
        remove(made, lock)
