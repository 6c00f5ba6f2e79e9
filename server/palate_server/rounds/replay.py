"""Replay: rebuilds the public models of a run from its releases. As post-processing it costs no privacy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from palate_common.algorithms import State, make_algorithm, next_state
from palate_common.models.model import GlobalModel, ModelHeader
from palate_core.errors import IntegrityError
from palate_core.log.entries import Entry
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.registry import Registry
from palate_server.rounds.terms import RunTerms


def model_header(terms: RunTerms, releases: int) -> ModelHeader:
    """The header of a run's model after this number of releases."""
    return ModelHeader(
        algorithm=terms.algorithm,
        settings=terms.settings,
        facts=terms.facts,
        releases=releases,
        catalogue=terms.catalogue,
    )


class Replay:
    """A run's public state, which is updated by each release.

    Args:
        terms: the run's terms.
        inputs: public arrays known before the first release, for algorithms that use them.

    Attributes:
        model: the model after the releases applied so far.
        round: the next round.
    """

    def __init__(self, terms: RunTerms, inputs: State | None = None) -> None:
        self._terms, self._inputs = terms, inputs or {}
        self.algorithm = make_algorithm(terms.algorithm, terms.settings, terms.facts)
        self.model = GlobalModel(model_header(terms, 0), self.algorithm.opening(self._inputs))
        self.round = 0

    def apply(self, noisy: NoisyAggregate) -> GlobalModel:
        """Update the model by one more release, and return it.

        Raises:
            IntegrityError: it is of another run, or not of the next round.
        """
        expected, got = (self._terms.run, self.round), (noisy.plan.run, noisy.plan.round)
        if got != expected:
            raise IntegrityError(f"the next release must be of run and round {expected}, got {got}")
        sums, noise = noisy.sums(), noisy.noise()
        state = next_state(self.algorithm, self.model.state, self.round, sums, noise, self._inputs)
        self.round += 1
        self.model = GlobalModel(model_header(self._terms, self.round), state)
        return self.model

    def read(self, registry: Registry, attempt: int, sealed_hash: str | None) -> NoisyAggregate:
        """Read the next round's release, check it against its seal and apply it.

        Raises:
            IntegrityError: it is missing, or not the sealed one.
        """
        noisy = registry.read(self.round, attempt, sealed_hash)
        self.apply(noisy)
        return noisy

    def go_on(self, registry: Registry, entries: Iterable[Entry]) -> Iterator[NoisyAggregate]:
        """Read, apply and yield one release after the other, as far as a run is sealed; with `off`, as far as written.

        Args:
            registry: the run's releases.
            entries: the run's entries in the ledger.

        Raises:
            IntegrityError: a sealed release is missing or changed.
        """
        for entry in entries:
            if entry.kind == "seal":
                yield self.read(registry, entry.attempt, entry.release_hash)
        if not self._terms.mode.private:
            while self.round < len(self.algorithm.shares):
                noisy = registry.read_unledgered(self.round)
                if noisy is None:
                    return
                self.apply(noisy)
                yield noisy
