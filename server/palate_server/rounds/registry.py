"""Registry: a run's files: sealed releases and the signed model.

releases/round-R-attempt-A.safetensors   a noised sum with its plan, written before it is sealed
releases/round-R-attempt-A.opened        only with `off`, where no ledger counts attempts
inputs.safetensors                       public arrays that the run starts from, such as item features
model/                                   the latest model, see `palate_common.models.published`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from palate_common.algorithms import State
from palate_common.models import published
from palate_common.models.catalogue import ItemCatalogue
from palate_common.models.item_table import ItemTable
from palate_common.models.model import METADATA_KEY, GlobalModel, read_metadata
from palate_common.records.files import make_folder, write_durably
from palate_core.errors import IntegrityError
from palate_core.log.canonical import canonical_json, digest
from palate_core.log.consistency import Shown
from palate_core.log.signing import SigningKey
from palate_core.plan import RoundPlan
from palate_server.rounds.noise import NoisyAggregate

INPUTS = "inputs.safetensors"


def pack_inputs(inputs: State) -> bytes:
    """Encode public arrays; the hash of the bytes is one of a run's terms."""
    data: bytes = safetensors.numpy.save({name: np.ascontiguousarray(inputs[name]) for name in sorted(inputs)})
    return data


class Registry:
    """Files of one run's releases and its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_empty(self) -> bool:
        """Whether no attempt has written a file."""
        folder = self.folder / "releases"
        return not folder.exists() or not any(folder.iterdir())

    def write_inputs(self, data: bytes) -> None:
        """Write the bytes of `pack_inputs`."""
        write_durably(self.folder / INPUTS, data)

    def read_inputs(self, inputs_hash: str | None) -> State:
        """Read the public arrays that a run starts from, and check them against its terms.

        Raises:
            IntegrityError: the file is missing, or has another hash than in the terms.
        """
        if inputs_hash is None:
            return {}
        path = self.folder / INPUTS
        data = path.read_bytes() if path.is_file() else b""
        if digest(data) != inputs_hash:
            raise IntegrityError(f"{INPUTS} must be the one that the run's terms name, and is not")
        return safetensors.numpy.load(data)

    def persist(self, noisy: NoisyAggregate) -> str:
        """Write a noised sum durably; returns its hash, which the ledger seals.

        Raises:
            IntegrityError: the attempt has a noised sum already; a second one would be a second release.
        """
        record = {"plan": noisy.plan.model_dump(mode="json"), "users": noisy.users}
        record |= {"subcohorts": noisy.subcohorts} if noisy.subcohorts else {}
        data: bytes = safetensors.numpy.save({"steps": noisy.steps}, {METADATA_KEY: canonical_json(record).decode()})
        path = self._release(noisy.plan.round, noisy.plan.attempt)
        make_folder(path.parent)
        if path.exists():
            raise IntegrityError(f"an attempt must be released once, got {path.stem} again")
        write_durably(path, data)
        return digest(data)

    def read(self, round_: int, attempt: int, sealed_hash: str | None) -> NoisyAggregate:
        """Read a release and check it against its seal.

        Args:
            round_: the release's round.
            attempt: the release's attempt.
            sealed_hash: its hash in the ledger; None only with `off`, where nothing is sealed.

        Raises:
            IntegrityError: the file is missing, or not the sealed one.
        """
        path = self._release(round_, attempt)
        try:
            data = path.read_bytes()
        except OSError:
            raise IntegrityError(f"the release {path.name} must be readable, and is not") from None
        if sealed_hash is not None and digest(data) != sealed_hash:
            raise IntegrityError(f"the release {path.name} must be the one that was sealed, and is not")
        try:
            record = read_metadata(data)
            steps = safetensors.numpy.load(data)["steps"]
            users, sizes = int(record["users"]), tuple(map(int, record.get("subcohorts", ())))
            return NoisyAggregate(steps, users, RoundPlan.model_validate(record["plan"]), sizes)
        except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
            raise IntegrityError(f"the release {path.name} must be a noised sum and its plan, and is not") from None

    def open_unledgered(self, round_: int) -> int:
        """With `off`: reserve the next attempt number of a round, durably, so that no later attempt gets it."""
        attempt = self._opened(round_)
        path = self._release(round_, attempt).with_suffix(".opened")
        make_folder(path.parent)
        write_durably(path, b"")
        return attempt

    def read_unledgered(self, round_: int) -> NoisyAggregate | None:
        """With `off`: a round's sum, if one was written."""
        for attempt in range(self._opened(round_)):
            if self._release(round_, attempt).exists():
                return self.read(round_, attempt, None)
        return None

    def publish(
        self,
        model: GlobalModel,
        catalogue: ItemCatalogue,
        facts: Mapping[str, Any],
        key: SigningKey,
        *,
        population: str,
        shown: Shown,
        table: ItemTable | None = None,
    ) -> None:
        """Write the model, its catalogue and a signed manifest.

        Args:
            model: the model.
            catalogue: the model's items.
            facts: further members of the manifest.
            key: the release key.
            population: the model's population.
            shown: the state of the population's ledger with proofs.
            table: titles and other facts of the items.

        Raises:
            IntegrityError: the catalogue isn't the model's; nothing was written.
        """
        files = published.pack(model, catalogue, facts, key, population=population, shown=shown, table=table)
        published.write(self.folder / "model", files)

    def _opened(self, round_: int) -> int:
        return len(list((self.folder / "releases").glob(f"round-{round_}-attempt-*.opened")))

    def _release(self, round_: int, attempt: int) -> Path:
        return self.folder / "releases" / f"round-{round_}-attempt-{attempt}.safetensors"
