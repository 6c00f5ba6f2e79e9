"""GlobalModel: the public state of an algorithm after a release, as devices receive it.

It is stored as safetensors with one metadata entry of canonical JSON, so that equal models have equal bytes and one
hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from palate_common.algorithms import Algorithm, PublicFacts, State, grown_state, make_algorithm
from palate_common.interactions import Interactions
from palate_core.errors import InputError, IntegrityError
from palate_core.log.canonical import canonical_json, digest

METADATA_KEY = "palate"
MOST_HEADER = 2**21
"""Bytes of the largest header of a safetensors file that is read: names and shapes, and Palate's metadata."""


class ModelHeader(BaseModel):
    """The metadata of a model file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    algorithm: str
    settings: dict[str, Any]
    facts: PublicFacts
    releases: int
    """How many releases the state was made from."""
    catalogue: str
    """Hash of the item ids in row order."""


@dataclass(frozen=True)
class GlobalModel:
    """A public state, and the metadata that is needed to use it."""

    header: ModelHeader
    state: State = field(repr=False)

    @cached_property
    def algorithm(self) -> Algorithm:
        """The algorithm the state belongs to."""
        return make_algorithm(self.header.algorithm, self.header.settings, self.header.facts)

    def scores(self, histories: Interactions) -> npt.NDArray[np.floating[Any]]:
        """Each user's score of each item, float [n_users, n_items]."""
        return self.algorithm.scores(self.state, histories)

    def expected_ratings(self, histories: Interactions) -> npt.NDArray[np.float64] | None:
        """Expected ratings, float64 [n_users, n_items], or None where the algorithm learns no ratings."""
        return self.algorithm.expected_ratings(self.state, histories)

    def over(self, items: Sequence[str], inputs: State) -> GlobalModel:
        """The same model over a catalogue that begins with its own: of its new items it has learned nothing.

        Args:
            items: ids of the catalogue, in row order.
            inputs: public inputs over it, of which an algorithm may tell new items' rows.

        Raises:
            InputError: it begins with other items, or the algorithm's models can't grow.
        """
        had, now = self.header.facts.n_items, len(items)
        if had == now and self.header.catalogue == catalogue_hash(items):
            return self
        if self.header.catalogue != catalogue_hash(items[:had]):
            raise InputError("a catalogue must begin with the items that the model has, in their order, got others")
        facts = self.header.facts.model_copy(update={"n_items": now})
        settings = self.header.settings | self.algorithm.settings_of(self.state)
        update = {"settings": settings, "facts": facts, "catalogue": catalogue_hash(items)}
        header = self.header.model_copy(update=update)
        algorithm = make_algorithm(header.algorithm, settings, facts)
        try:
            found = GlobalModel(header, grown_state(algorithm, self.state, now, inputs))
            nobody = Interactions(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), now)
            scores = found.scores(nobody)
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"`{header.algorithm}` must say how its models grow, got {error!r:.80}") from None
        if scores.shape != (1, now) or not np.isfinite(scores).all():
            raise InputError(f"`{header.algorithm}` must say how its models grow, and one gives no scores of new items")
        return found

    @cached_property
    def learns_ratings(self) -> bool:
        """Whether weights of events are ratings to it, which don't fade with time."""
        nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return (
            self.expected_ratings(Interactions(np.zeros(2, np.int64), *nothing, self.header.facts.n_items)) is not None
        )

    @cached_property
    def data(self) -> bytes:
        """The bytes of the model file."""
        metadata = {METADATA_KEY: canonical_json(self.header.model_dump(mode="json")).decode()}
        tensors = {name: np.asarray(array, order="C") for name, array in sorted(self.state.items())}
        data: bytes = safetensors.numpy.save(tensors, metadata)
        return data

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the model file."""
        return digest(self.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> GlobalModel:
        """Read a model file.

        Raises:
            IntegrityError: as `read_model`.
        """
        model = cls(*read_model(data))
        # The received bytes are hashed and passed on: this version might encode the model differently.
        vars(model)["data"] = bytes(data)
        return model


def read_model(data: bytes) -> tuple[ModelHeader, State]:
    """Read and check header and arrays of a model file, before anything is computed with them.

    Raises:
        IntegrityError: not a model file, of another format, a shape larger than the file, or a number that isn't
            finite.
    """
    try:
        state = read_tensors(data)
        header = ModelHeader.model_validate(read_metadata(data))
    except (safetensors.SafetensorError, ValidationError, KeyError, ValueError, TypeError, RecursionError):
        raise IntegrityError(f"a model must be a Palate safetensors file, got {len(data)} other bytes") from None
    for name, array in state.items():
        # An empty array may claim any width: computations with it must not be larger than the file.
        if math.prod(max(n, 1) for n in array.shape) > max(len(data), 1):
            raise IntegrityError(f"the array {name!r} must fit its file, got the shape {array.shape}")
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise IntegrityError(f"the array {name!r} must hold finite numbers, got others")
    return header, state


def read_tensors(data: bytes) -> State:
    """The arrays of a safetensors file.

    Raises:
        SafetensorError, ValueError: not a safetensors file, or its header has more than `MOST_HEADER` bytes.
    """
    _header_bytes(data)
    state: State = safetensors.numpy.load(data)
    return state


def read_metadata(data: bytes) -> dict[str, Any]:
    """Palate's metadata entry in a safetensors file.

    Raises:
        KeyError, ValueError, TypeError, RecursionError: there is none.
    """
    entry: dict[str, Any] = json.loads(json.loads(data[8 : 8 + _header_bytes(data)])["__metadata__"][METADATA_KEY])
    return entry


def _header_bytes(data: bytes) -> int:
    """The length of a safetensors file's header."""
    length = int.from_bytes(data[:8], "little")
    if length > MOST_HEADER:
        raise ValueError(f"a header must be at most {MOST_HEADER} bytes, got {length}")
    return length


def catalogue_hash(items: Sequence[str]) -> str:
    """Hash of the item ids in row order."""
    return digest(canonical_json(list(items)))
