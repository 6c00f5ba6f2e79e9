"""Starter: a signed model of a public log, with titles, for devices and servers that have none of their own yet.

    log -> items that enough people have -> the public model of these people (`panel.fit_panel`) -> folder, signed

Whoever has no history gets what the log's people had most; for everybody else it is the log's taste alone, since whose
popularity it is changes with time and place. No noise is added: the log is public, and so is what is made of it. The
key is forgotten as soon as it has signed: no plan of the starter's population can ever be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate_client.starter import KEY_FILE
from palate_common.algorithms.als.vote import ALONE
from palate_common.interactions import Interactions
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_rows import SCHEMES
from palate_common.models.item_table import ItemTable
from palate_common.models.model import GlobalModel
from palate_common.records.files import write_durably
from palate_core.errors import InputError
from palate_core.log.canonical import canonical_json
from palate_core.log.signing import SigningKey
from palate_server.ledger.ledger import Ledger
from palate_sim.data import is_place, list_datasets, load, positives
from palate_sim.data.features import published_facts
from palate_sim.evaluation.rehearsal import rehearse
from palate_sim.panel.panel import MatchedItems, fit_panel, people_of
from palate_sim.run.run_folder import check_new

LEAST_PEOPLE, LINKS = 5, 32
"""People whom an item has, and links that it has: a file of 300 kB at most, and 7 % less found than with all links."""
PRIVACY = "not differentially private: a public log's model without noise; it protects nobody who is in the log"


@dataclass(frozen=True)
class Recipe:
    """What a starter is made of.

    Attributes:
        log: the log's path, or its name in `palate data list`, which knows licence and source.
        kind: what its items are, such as films; the starter's name.
        licence: the terms under which the log is public.
        source: where it is from; "": the log's name.
        scheme: the scheme of public ids, such as imdb, that the log's ids are; "": of none.
        least_people: of whom an item is left in.
        links: of an item at most.
        seed: of public randomness.
    """

    log: str
    kind: str
    licence: str = ""
    source: str = ""
    scheme: str = ""
    least_people: int = LEAST_PEOPLE
    links: int = LINKS
    seed: int = 0

    @property
    def command(self) -> str:
        """The command line that makes it again, but for key and signature."""
        words = ["palate starter build", Path(self.log).name, "--kind", self.kind]
        for name, value, usual in (
            ("--ids", self.scheme, ""),
            ("--least-people", self.least_people, LEAST_PEOPLE),
            ("--links", self.links, LINKS),
            ("--seed", self.seed, 0),
        ):
            words += [name, str(value)] if value != usual else []
        return " ".join(words)


def build(recipe: Recipe, out: Path) -> Mapping[str, Any]:
    """Make a starter, and write it to a folder.

    Returns:
        What its manifest says of it.

    Raises:
        InputError: the log can't be read, no item has enough people, nobody says under which terms it is public, or
            the folder has something in it.
    """
    check_new(out)
    if recipe.scheme and recipe.scheme not in SCHEMES:
        raise InputError(f"`ids` must be one of {', '.join(SCHEMES)}, got {recipe.scheme!r:.40}")
    homes = {} if is_place(recipe.log) else {known.name: known.homepage for known in list_datasets()}
    log = load(recipe.log)
    licence = recipe.licence or log.terms
    if not licence:
        raise InputError("`licence` must say under which terms the log is public, got none")
    pairs = positives(log, timed=False)
    people, items = _narrowed(recipe, pairs)
    facts = {
        "kind": recipe.kind,
        "source": recipe.source or homes.get(recipe.log, log.name),
        "licence": licence,
        "log": _hash(people, items),
        "people": people.n_users,
        "items": len(items),
        "interactions": people.nnz,
        "command": recipe.command,
        "seed": recipe.seed,
        "epsilon": None,
        "privacy": PRIVACY,
    }
    model = _model(recipe, people)
    catalogue = ItemCatalogue(items)
    model = replace(model, header=model.header.model_copy(update={"catalogue": catalogue.hash}))
    table = published_facts(log.items, items)
    _write(out, model, catalogue, _with_ids(table, items, recipe.scheme), facts)
    return facts


def _narrowed(recipe: Recipe, pairs: Any) -> tuple[Interactions, tuple[str, ...]]:
    """The log's people over the items that enough of them have, and these."""
    every = MatchedItems(np.arange(len(pairs.items)), {})
    people, _, _ = people_of(pairs, pairs.items, every, setting="log")
    kept = np.flatnonzero(people.item_counts >= recipe.least_people)
    if len(kept) < 2:
        raise InputError(f"`log` must have items of {recipe.least_people} people each, got {len(kept)} such items")
    places = np.full(len(pairs.items), -1, np.int64)
    places[kept] = np.arange(len(kept))
    items = tuple(pairs.items[row] for row in kept)
    return people_of(pairs, items, MatchedItems(places, {}), setting="log")[0], items


def _model(recipe: Recipe, people: Interactions) -> GlobalModel:
    """Popularity for whoever has no history, and the log's taste alone for everybody else."""
    inputs = fit_panel(people, seed=recipe.seed, most=recipe.links)
    made = rehearse(
        people, algorithm="als", settings={"rounds": 1}, epsilon=None, delta=1e-6, seed=recipe.seed, inputs=inputs
    )
    return replace(made, state={**made.state, "open_weight": np.array([ALONE], np.float32)})


def _hash(people: Interactions, items: tuple[str, ...]) -> str:
    """Hash of who has what, of that part of the log that the model is made of."""
    found = hashlib.sha256(canonical_json(list(items)))
    for array in (people.indptr, people.indices):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _with_ids(table: ItemTable | None, items: tuple[str, ...], scheme: str) -> ItemTable | None:
    """The table with the log's own ids as public ones."""
    if table is None or not scheme:
        return table
    front = "tt" if scheme == "imdb" else ""
    return replace(table, ids={**table.ids, scheme: tuple(front + item.removeprefix(front) for item in items)})


def _write(
    out: Path, model: GlobalModel, catalogue: ItemCatalogue, table: ItemTable | None, facts: Mapping[str, Any]
) -> None:
    """Sign it with a key that is then forgotten, and write the least that a device needs."""
    key, population = SigningKey.generate(), f"starter: {facts['kind']}, no rounds"
    said = {"about": facts["kind"], "dp": "off", "provenance": dict(facts)}
    with Ledger(":memory:", population=population) as ledger:
        ledger.open_run("starter", {})
        files = published.pack(model, catalogue, said, key, population=population, shown=ledger.shown(), table=table)
    del files[published.MODEL]
    published.write(out, files)
    write_durably(out / KEY_FILE, key.public.encode() + b"\n")
