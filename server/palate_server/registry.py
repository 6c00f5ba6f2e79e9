"""Registry: sealed releases and the signed model, as files.

releases/round-R-attempt-A.safetensors   a noised sum with its plan, persisted before it is sealed
model/                                   the latest model: model.safetensors, items, manifest.json, signature
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from pydantic import ValidationError

from palate_common.canonical import canonical_json, digest
from palate_common.errors import IntegrityError
from palate_common.files import write_durably
from palate_common.model import METADATA_KEY, GlobalModel, catalogue_hash, read_metadata
from palate_common.plan import RoundPlan
from palate_common.signing import SigningKey, verify
from palate_server.noise import NoisyAggregate

MANIFEST_TAG = "palate/model/1"


class Registry:
    """Files of one run's releases and its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def persist(self, noisy: NoisyAggregate) -> str:
        """Write a noised sum durably; its hash is what the ledger seals."""
        (self.folder / "releases").mkdir(exist_ok=True)
        record = {"plan": noisy.plan.model_dump(mode="json"), "users": noisy.users}
        data: bytes = safetensors.numpy.save({"steps": noisy.steps}, {METADATA_KEY: canonical_json(record).decode()})
        write_durably(self._release(noisy.plan.round, noisy.plan.attempt), data)
        return digest(data)

    def read(self, round_: int, attempt: int, sealed_hash: str | None) -> NoisyAggregate:
        """Read a release back and check it against its seal.

        Raises:
            IntegrityError: the file is missing, or not the one that was sealed.
        """
        path = self._release(round_, attempt)
        try:
            data = path.read_bytes()
            record = read_metadata(data)
            steps = safetensors.numpy.load(data)["steps"]
            noisy = NoisyAggregate(steps, int(record["users"]), RoundPlan.model_validate(record["plan"]))
        except (OSError, ValueError, KeyError, ValidationError, safetensors.SafetensorError):
            raise IntegrityError(f"the release {path.name} must be readable, and is not") from None
        if sealed_hash is not None and digest(data) != sealed_hash:
            raise IntegrityError(f"the release {path.name} must be the one that was sealed, and is not")
        return noisy

    def holds(self, round_: int, attempt: int) -> bool:
        """Whether a release was persisted."""
        return self._release(round_, attempt).exists()

    def publish(
        self, model: GlobalModel, items: Sequence[str], facts: Mapping[str, Any], key: SigningKey
    ) -> Mapping[str, Any]:
        """Write the model, its catalogue and a signed manifest; returns the manifest.

        Args:
            model: the model to publish.
            items: item ids in row order.
            facts: what else the manifest says: run, population, privacy.
            key: the release key.
        """
        if catalogue_hash(items) != model.header.catalogue:
            raise IntegrityError("`items` must be the catalogue the model was trained on, got another")
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        manifest = {**facts, "model_hash": model.hash, "catalogue": model.header.catalogue, "items": len(items)}
        manifest |= {"algorithm": model.header.algorithm, "releases": model.header.releases, "public_key": key.public}
        payload = canonical_json(manifest)
        write_durably(folder / "items", "".join(f"{item}\n" for item in items).encode())
        write_durably(folder / "model.safetensors", model.data)
        write_durably(folder / "manifest.json", payload)
        write_durably(folder / "signature", key.sign(MANIFEST_TAG, payload).encode())
        return manifest

    def _release(self, round_: int, attempt: int) -> Path:
        return self.folder / "releases" / f"round-{round_}-attempt-{attempt}.safetensors"


def load_model(folder: Path, *, public_key: str) -> tuple[GlobalModel, tuple[str, ...]]:
    """Read a published model and its item ids, and verify them against the pinned release key.

    Raises:
        IntegrityError: any of the four files is missing, changed, or not signed by that key.
    """
    try:
        payload = (folder / "manifest.json").read_bytes()
        signature = (folder / "signature").read_text()
        model = GlobalModel.from_bytes((folder / "model.safetensors").read_bytes())
        items = tuple((folder / "items").read_text(encoding="utf-8").split("\n")[:-1])
    except (OSError, UnicodeDecodeError):
        raise IntegrityError(f"a model folder must hold model, items, manifest and signature: {folder}") from None
    verify(public_key, MANIFEST_TAG, payload, signature)
    if f'"model_hash":"{model.hash}"'.encode() not in payload or catalogue_hash(items) != model.header.catalogue:
        raise IntegrityError("the model must be the one its manifest names, and is not")
    return model, items
