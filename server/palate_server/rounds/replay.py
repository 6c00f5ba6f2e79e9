"""Replay: the public models of a run, made again from its releases. Post-processing: it costs nothing."""

from __future__ import annotations

from palate_common.algorithms import State, make_algorithm, next_state
from palate_common.errors import IntegrityError
from palate_common.models.model import GlobalModel, ModelHeader
from palate_server.rounds.noise import NoisyAggregate
from palate_server.rounds.registry import Registry
from palate_server.rounds.terms import RunTerms


def model_header(terms: RunTerms, releases: int) -> ModelHeader:
    """What a model of this run says about itself after so many releases."""
    return ModelHeader(
        algorithm=terms.algorithm,
        settings=terms.settings,
        facts=terms.facts,
        releases=releases,
        catalogue=terms.catalogue,
    )


class Replay:
    """A run's public state, moved from one release to the next.

    Args:
        terms: the run's terms.
        inputs: public arrays known before the first release, for the algorithms that name them.

    Attributes:
        model: the model after the releases applied so far.
        round: the next round.
    """

    def __init__(self, terms: RunTerms, inputs: State | None = None) -> None:
        self._terms, self._inputs = terms, inputs or {}
        self.algorithm = make_algorithm(terms.algorithm, terms.settings, terms.facts)
        self.model = GlobalModel(model_header(terms, 0), self.algorithm.start())
        self.round = 0

    def apply(self, noisy: NoisyAggregate) -> GlobalModel:
        """The model after one more release.

        Raises:
            IntegrityError: it is another run's, or not the next round's.
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
        """The next round's release, read back, checked against its seal and applied.

        Raises:
            IntegrityError: it is missing, or is not the one that was sealed.
        """
        noisy = registry.read(self.round, attempt, sealed_hash)
        self.apply(noisy)
        return noisy
