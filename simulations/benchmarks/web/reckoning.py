"""What Python sends for a history in a round: a vector with its noise, from the plan, the model and the seed alone."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from benchmarks.serve.world import World
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.models.model import GlobalModel, read_metadata
from palate_common.rounds.shares import share_source, with_noise
from palate_core.plan import RoundPlan, read_plan

Steps = npt.NDArray[np.int64]


def shown_vector(told: Mapping[str, str]) -> tuple[bytes, bytes, Steps]:
    """Signed plan, model file and vector, as a browser has told them."""
    steps = np.frombuffer(b64decode(told["steps"]), "<f8")
    return b64decode(told["plan"]), b64decode(told["model"]), steps.astype(np.int64)


def releases(world: World) -> list[tuple[RoundPlan, Steps]]:
    """Plan and sum of each release of a server, in their order."""
    found = []
    for file in sorted(world.site.folder.rglob("releases/round-*-attempt-*.safetensors")):
        data = file.read_bytes()
        plan = RoundPlan.model_validate(read_metadata(data)["plan"])
        found.append((plan, safetensors.numpy.load(data)["steps"].astype(np.int64)))
    return found


def vector_of(plan: bytes, model: bytes, liked: Sequence[str], items: Sequence[str], device: int) -> Steps:
    """The vector of one device, whose user liked these items."""
    return _vector(read_plan(plan).plan, GlobalModel.from_bytes(model), liked, items, device)


def expected(plan: RoundPlan, model: bytes, liked: Mapping[int, Sequence[str]], items: Sequence[str]) -> Steps:
    """The sum over all devices."""
    known = GlobalModel.from_bytes(model)
    return np.sum([_vector(plan, known, own, items, device) for device, own in liked.items()], axis=0)


def _vector(plan: RoundPlan, model: GlobalModel, liked: Sequence[str], items: Sequence[str], device: int) -> Steps:
    rows = {item: row for row, item in enumerate(items)}
    own = [rows[item] for item in liked]
    history = Interactions.from_pairs([0] * len(own), own, n_users=1, n_items=len(items))
    update = model.algorithm.contribute(model.state, plan.round, history)
    clipped = clip(update, plan.layout, clip_norm=plan.clip_norm, grid=plan.grid)
    return with_noise(clipped.total(), 1, plan, share_source(plan, [device])).steps
