"""The other side of the sample app: an operator with 537 simulated users of MovieLens, in this process.

In real life this is a server, and the app reaches it over a network. What goes between the two is the same: files of a
model to download, a plan and a model file to answer, and the answer's bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from palate_client.rounds.contribution import Contributor
from palate_common.algorithms import PublicFacts
from palate_common.models.catalogue import ItemCatalogue
from palate_common.records.closing import Closing
from palate_core.accounting import mu_of
from palate_core.device.floors import Floors
from palate_core.log.signing import SigningKey
from palate_core.plan import MAX_USERS
from palate_server.rounds.run import open_run
from palate_server.rounds.terms import RunTerms
from palate_sim.config import load_config
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger
from palate_sim.preparation.preparation import prepare

POPULATION, EPSILON, DELTA = "film fans", 5.0, 1e-5  # of the whole run; unit: user, adjacency: zero-out


class Operator(Closing):
    """A release key, a population with its ledger, one run, and everybody else who takes part in it.

    Attributes:
        public_key: what an app has built in.
        titles: item -> title.
        site: where published models lie.
    """

    def __init__(self, folder: Path) -> None:
        prepared = prepare(load_config(), "movielens-small")
        others, self._catalogue = prepared.split.train, ItemCatalogue(prepared.split.items)
        shown = prepared.catalogue
        self.titles = {} if shown is None else dict(zip(shown["item_id"], shown["title"], strict=True))
        folder.mkdir()
        self.site, self._key = folder / "model", SigningKey.generate()
        self.public_key = self._key.public
        self._open = ExitStack()
        terms = RunTerms(
            population=POPULATION,
            per_node=MAX_USERS,  # here one node answers for all the simulated users
            run="first run",
            algorithm="als",
            settings={},
            facts=PublicFacts(
                n_users=others.n_users + 1, n_items=others.n_items, mu=mu_of(epsilon=EPSILON, delta=DELTA)
            ),
            catalogue=self._catalogue.hash,
            epsilon=EPSILON,
            delta=DELTA,
            dp="central",  # the server sees each contribution, and adds the noise: only masks take that away
            cohort_floor=100,
        )
        run = open_run(terms, folder, ledger=folder / "ledger.db", key=self._key)
        self._run = self._open.enter_context(run)
        devices = self._open.enter_context(SimulatedLedger(":memory:"))
        floors = Floors(allow_central=True)
        self._others = Contributor(others, range(others.n_users), devices, self.public_key, floors, pinned=None)
        self._publish()

    @property
    def finished(self) -> bool:
        """Whether there are no more rounds."""
        return self._run.finished

    def plan(self) -> tuple[bytes, bytes]:
        """The next round's signed plan, and the model file it names."""
        self._asked = self._run.open_attempt(), self._run.model.data
        return self._asked

    def take(self, answer: bytes) -> int:
        """Sum the app's answer with everybody else's, add the noise, publish. Returns how many took part."""
        released = self._run.close_attempt({0: self._others.answer(*self._asked), 1: answer})
        self._publish()
        return released.participation.users

    def close(self) -> None:
        """Let go of its files."""
        self._open.close()

    def _publish(self) -> None:
        """The model as it is now."""
        place = {"population": POPULATION, "shown": self._run.ledger.shown()}
        self._run.registry.publish(self._run.model, self._catalogue, {"run": "first run"}, self._key, **place)
