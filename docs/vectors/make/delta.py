"""delta.json: two unpacked compact models, and a delta between them: rows of other items, and a mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors.numpy

from palate_common.algorithms import PublicFacts
from palate_common.models.delta import HEADER, MIX, NONE, REST, ROWS, DeltaHeader, predict
from palate_common.models.model import METADATA_KEY, ModelHeader, catalogue_hash
from palate_core.log.canonical import canonical_json, digest


def delta() -> dict[str, Any]:
    """Two unpacked compact models, and a delta between them: rows of other items, and a mix."""
    rng, catalogue = np.random.default_rng(1), catalogue_hash(["apple", "pear", "plum"])
    facts = PublicFacts(n_users=1000, n_items=3, mu=1.0, seed=7)
    header = ModelHeader(algorithm="als", settings={}, facts=facts, releases=2, catalogue=catalogue)
    metadata = {METADATA_KEY: canonical_json(header.model_dump(mode="json")).decode()}
    old = {"basis": rng.integers(-128, 128, (4, 2)).astype(np.int8), "counts": np.arange(4, dtype=np.float16)}
    new = {name: rng.integers(-128, 128, (3, 2)).astype(np.int8) for name in ("basis", "table")}
    new |= {"counts": np.array([0.5, 3, -7], np.float16)}
    base, result = (safetensors.numpy.save(state, metadata) for state in (old, new))
    head = result[: 8 + int.from_bytes(result[:8], "little")]
    rows = np.array([2, -1, 3])
    steps = np.array([2, NONE, 0], np.int32)
    mix = np.array([[-4096, 9], [77, 4000], [-300, 32767]], np.int16)
    parts: dict[str, Any] = {HEADER: np.frombuffer(head, np.uint8), "basis" + MIX: mix}
    parts |= {name + ROWS: steps for name in old}
    for name, word in {"basis": np.uint8, "counts": np.uint16, "table": np.uint8}.items():
        rest = new[name].reshape(-1).view(word)
        if name in old:
            guess = predict(old[name], rows, mix if name == "basis" else None, new[name].shape)
            rest = rest - guess.reshape(-1).view(word)
        parts[name + REST] = np.ascontiguousarray(rest.view(np.uint8).reshape(new[name].size, -1).T)
    said = DeltaHeader(base=digest(base), result=digest(result), predicted=("basis", "counts"))
    plain = safetensors.numpy.save(parts, {METADATA_KEY: canonical_json(said.model_dump(mode="json")).decode()})
    return {"base_hex": base.hex(), "delta_inflated_hex": plain.hex(), "result_hex": result.hex()}
