"""ModelShelf: where devices find the model that the open attempt starts from, by its hash.

    run_round --put, before the charge--> public/round/SHA-256 -> the gateway, a static file -> devices
    Operation --clear, after the attempt--> nothing there

The message to a device has the plan alone, which names the hash: what all devices get is the same bytes, and doesn't
pass the SuperLink once for each of them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shelf = ModelShelf(Path(folder))
    ...     file = shelf.put(b"a model")
    ...     shelf.clear()
    ...     file.name == digest(b"a model"), file.exists()
    (True, False)
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from palate_common.records.files import write_durably
from palate_core.log.canonical import digest


class ModelShelf:
    """A public folder with one file while an attempt is open, and else with none.

    Args:
        folder: it is made if it isn't there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, model: bytes) -> Path:
        """Write a model file under its SHA-256, in the place of the former one.

        Raises:
            OSError: it can't be written.
        """
        self.clear()
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)  # the gateway's workers may be of another account
        file = self._folder / digest(model)
        write_durably(file, model)
        return file

    def clear(self) -> None:
        """Remove what is there; what can't be removed stays until the next attempt, and tells nothing."""
        with suppress(OSError):
            for file in self._folder.iterdir():
                file.unlink()
