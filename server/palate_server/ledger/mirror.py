"""Mirror: the ledger as static files that anybody may fetch and replay (`palate_common.records.tiles`).

    ledger -> tiles, bundles of entries, and then the signed checkpoint -> public/ledger, which the gateway serves

All entries are public: terms, charges, hashes of plans, releases and models, and no word about any device. Files are
never changed, but the checkpoint; partial ones are kept until the whole one is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from palate_common.records.files import write_durably
from palate_common.records.tiles import CHECKPOINT, WIDTH, pack_entries, tile, tile_path, tiles_of
from palate_common.system import sync_folder
from palate_core.errors import PalateError
from palate_core.log.checkpoints import read_state
from palate_core.log.merkle import Checkpoint
from palate_core.log.notes import MOST_NOTE, Note, read_note
from palate_server.ledger.ledger import Ledger

Sign = Callable[[Checkpoint], Note]
"""Gives the signed, and perhaps cosigned, checkpoint of a state of the ledger."""


class Mirror:
    """The files of a ledger in a folder.

    Args:
        folder: where they are; it is made when it is needed, and its parent must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def checkpoint(self) -> Checkpoint | None:
        """The state that is mirrored; None if there is none, or it can't be read."""
        try:
            with (self.folder / CHECKPOINT).open("rb") as file:
                return read_state(read_note(file.read(MOST_NOTE + 1)).text).checkpoint
        except (OSError, PalateError):
            return None

    def update(self, ledger: Ledger, sign: Sign, size: int | None = None) -> bool:
        """Write what the ledger has and the files lack; returns whether there was anything.

        A mirror that isn't of an earlier state of this ledger, as before a restoration, is written anew.

        **Guarantees:** no checkpoint without its tiles: whoever reads the mirror, at whatever time and wherever an
        earlier writer has ended, finds the files of the checkpoint that it has, or none.

        Args:
            ledger: the ledger.
            sign: signs the checkpoint.
            size: of the state that is mirrored; None: the present one.

        Raises:
            InputError: an entry is too large for a bundle.
            OSError: a file can't be written.
        """
        now, there = ledger.checkpoint(size), self.checkpoint()
        if there == now:
            return False
        since = 0
        if there is not None and there.size <= now.size and ledger.checkpoint(there.size) == there:
            since = there.size
        elif there is not None and size is not None and size < there.size:
            return False  # another process has mirrored a later state meanwhile
        else:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)  # it is of other tiles than those that come now
            shutil.rmtree(self.folder / "tile", ignore_errors=True)
        whole = self._write(ledger, now, since)
        write_durably(self.folder / CHECKPOINT, sign(now).to_bytes())
        for path in whole:  # readers who have the former checkpoint take the whole file now
            shutil.rmtree(self.folder / f"{path}.p", ignore_errors=True)
        return True

    def cosign(self, note: Note) -> None:
        """Replace the checkpoint by the same one with more signatures.

        Raises:
            OSError: it can't be written.
        """
        if self.checkpoint() == read_state(note.text).checkpoint:
            write_durably(self.folder / CHECKPOINT, note.to_bytes())

    def _write(self, ledger: Ledger, now: Checkpoint, since: int) -> list[str]:
        """Write the files of a state that those of an earlier one lack; returns those that aren't partial."""
        tree, leaves = ledger.leaves(now.size)
        made: dict[str, bytes] = {}
        for level, index, width in tiles_of(now.size, since):
            made[tile_path(level, index, width)] = tile(tree, level, index, width)
            if level == 0:
                bundle = pack_entries(leaves[index * WIDTH : index * WIDTH + width])
                made[tile_path("entries", index, width)] = bundle
        for path, data in made.items():
            self._folder_of(path)
            write_durably(self.folder / path, data)
        return [path for path in made if ".p/" not in path]

    def _folder_of(self, path: str) -> None:
        """Make the folders of a file, durably, and readable by the gateway."""
        folder = self.folder
        for part in ("", *path.split("/")[:-1]):
            folder = folder / part
            if not folder.is_dir():
                folder.mkdir(mode=0o755, exist_ok=True)  # a publication's process writes the mirror, too
                folder.chmod(0o755)  # whatever the umask is
                sync_folder(folder.parent)
