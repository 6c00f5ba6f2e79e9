"""The sample model that comes with the package, made anew: `palate.sample()`.

    python docs/examples/make_sample.py

Made readers, the algorithm and settings of a real run, no noise since nobody has to be protected, and a key that is
forgotten as soon as it has signed. The same readers give the same model; only key and signature differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.starter import FOLDERS
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.model import GlobalModel
from palate_common.records.files import write_durably
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_sim.evaluation.rehearsal import rehearse

POPULATION = "sample: made readers, no rounds"
READERS, BOOKS, SHELVES = 2000, 160, 8


def readers() -> Interactions:
    """Each likes two shelves of eight best and has 4 to 15 books, four of five from there; some books are loved."""
    rng = np.random.default_rng(2026)
    shelf, loved = np.arange(1, BOOKS + 1) % SHELVES, 1 / np.sqrt(1 + np.arange(BOOKS) // SHELVES)
    users, items = [], []
    for reader in range(READERS):
        own = rng.choice(SHELVES, 2, replace=False)
        odds = loved * np.where(np.isin(shelf, own), 4 * (SHELVES - 2) / 2, 1.0)
        count = int(rng.integers(4, 16))
        users += [reader] * count
        items += rng.choice(BOOKS, count, replace=False, p=odds / odds.sum()).tolist()
    return Interactions.from_pairs(users, items, n_users=READERS, n_items=BOOKS)


def model() -> tuple[GlobalModel, ItemCatalogue]:
    """What these readers amount to."""
    catalogue = ItemCatalogue(tuple(f"book-{number}" for number in range(1, BOOKS + 1)))
    made = rehearse(readers(), algorithm="als", settings={}, epsilon=None, delta=1e-6)
    return replace(made, header=made.header.model_copy(update={"catalogue": catalogue.hash})), catalogue


def main(folder: Path = FOLDERS["sample"]) -> None:
    """Sign it, write the least that a device needs, forget the key."""
    trained, catalogue = model()
    key = SigningKey.generate()
    with Ledger(":memory:", population=POPULATION) as ledger:
        ledger.open_run("sample", {})
        files = published.pack(
            trained, catalogue, {"about": "made readers"}, key, population=POPULATION, shown=ledger.shown()
        )
    del files[published.MODEL]
    for name, data in {**files, "public-key": key.public.encode() + b"\n"}.items():
        write_durably(folder / name, data)


if __name__ == "__main__":
    main()
