"""verdict.json: devices judge a model: plan and models as they come, and what is sent for some histories."""

from __future__ import annotations

from typing import Any

import numpy as np

from palate_common.algorithms import PublicFacts, make_algorithm
from palate_common.algorithms.base import State
from palate_common.algorithms.parts.quarantine import QUARANTINED
from palate_common.algorithms.verdict import CANDIDATE, IN_USE, ROWS, JudgedModel, JudgedPair, arrays_of
from palate_common.interactions import Interactions
from palate_common.mechanism.clipping import clip
from palate_common.models.model import GlobalModel, ModelHeader, catalogue_hash
from palate_common.rounds.shares import add_shares, share_source
from palate_common.rounds.wire import ContributionHeader, encode_share
from palate_core.accounting import charged_mu2, mu_of, sigma_for
from palate_core.cohort_terms import CohortTerms
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DpMode

from .contributed import als_linked, als_state
from .plan import charged

N = 150
GRID = 2**20
SIZES = (0, 1, 2, 9, 40, 145)
"""Items of each user: none, one, which is in one half alone, few and nearly all."""

Model = tuple[str, PublicFacts, State]
"""Algorithm, facts and arrays."""


def verdict() -> dict[str, Any]:
    """Devices judge a model: plan and models as they come, and what is sent for some histories.

    The models are made up, of numbers that every machine writes alike. The noise is that of a seed, which only a
    test's devices accept; `device` is this one's number in the cohort.
    """
    rng = np.random.default_rng(11)
    rows = [np.sort(rng.permutation(N)[:size]) for size in SIZES]
    weights = [np.ones(size) if size % 2 else rng.integers(1, 9, size) / 4 for size in SIZES]
    owners = np.repeat(np.arange(len(SIZES)), SIZES)
    shape = {"n_users": len(SIZES), "n_items": N}
    histories = Interactions.from_pairs(owners, np.concatenate(rows), np.concatenate(weights), **shape)
    features = PublicFacts(n_users=20_000, n_items=N, mu=0.1, n_features=5, panel_users=40, seed=2**40 + 3)
    plain = PublicFacts(n_users=2000, n_items=N, mu=1.0, seed=7)
    counts = {"counts": (rng.integers(1, 40, N) / 2).astype(np.float32)}
    taste = als_directions(rng, N, 140, 2)
    linked = als_linked(rng, N)
    bare = {name: array for name, array in als_state(rng, N, 60, 3).items() if name in ("counts", "floor")}
    content = bare | {name: linked[name] for name in ("content", "content_weight")}
    cases = [
        ("links, content and directions, beside counts", ("als", features, linked), ("popularity", plain, counts)),
        ("directions, beside counts of als", ("als", plain, taste), ("als", plain, bare)),
        ("counts with many ties, beside content alone", ("popularity", plain, counts), ("als", features, content)),
        ("two models of people's own lists, by rank", ("als", plain, taste), ("als", features, linked)),
        ("two models that are the same", ("als", features, linked), ("als", features, linked)),
    ]
    made = [_judged(what, one, other, histories) for what, one, other in cases]
    former = PublicFacts(n_users=2000, n_items=120, mu=1.0, seed=7)
    rows = rng.permutation(N)[:120]
    rows[::10] = -1
    out = np.zeros(120, np.uint8)
    out[::7] = 1
    before = ("als", former, als_directions(rng, 120, 50, 2) | {QUARANTINED: out})
    made.append(_judged("after new items", ("als", plain, taste), before, histories, {ROWS: rows.astype(np.int64)}))
    marked = np.zeros(N, np.uint8)
    marked[np.setdiff1d(np.arange(0, 60, 4), histories.user(3).indices)] = 1
    (_, candidate, (*known, state)), more = cases[0], np.zeros(N, np.uint8)
    more[60::4] = 1
    in_use: Model = (known[0], known[1], state | {QUARANTINED: more})
    made.append(_judged("items in quarantine, others in use", candidate, in_use, histories, {QUARANTINED: marked}))
    return {"device": 3, "cases": made}


def als_directions(rng: np.random.Generator, n: int, head: int, width: int) -> dict[str, Any]:
    """A model of `als` with directions alone."""
    return als_state(rng, n, head, width) | {
        "basis": (rng.integers(-512, 512, (head, width)) / 2048).astype(np.float32),
        "strength": np.full(width, 0.5, np.float32),
        "accuracy": np.full(width, 0.75, np.float32),
        "values": np.full(width, 8, np.float32),
        "noise": np.ones(2, np.float32),
    }


def _judged(
    what: str, candidate: Model, in_use: Model, histories: Interactions, more: State | None = None
) -> dict[str, Any]:
    """One verdict: the signed plan, its model file, and what is sent for each history."""
    catalogue = catalogue_hash([f"item-{row}" for row in range(N)])

    def judged(name: str, facts: PublicFacts, state: State) -> JudgedModel:
        header = ModelHeader(algorithm=name, settings={}, facts=facts, releases=1, catalogue=catalogue)
        return JudgedModel(algorithm=name, settings={}, facts=facts, model=GlobalModel(header, state).hash)

    pair = JudgedPair(run="run-0", candidate=judged(*candidate), in_use=judged(*in_use))
    facts = PublicFacts(n_users=100, n_items=N, mu=mu_of(epsilon=5.0, delta=1e-5), seed=2**40 + 3)
    settings = pair.model_dump(mode="json")
    algorithm = make_algorithm("verdict", settings, facts)
    header = ModelHeader(algorithm="verdict", settings=settings, facts=facts, releases=0, catalogue=catalogue)
    inputs = arrays_of(CANDIDATE, candidate[2]) | arrays_of(IN_USE, in_use[2])
    model = GlobalModel(header, algorithm.opening(inputs) | (more or {}))
    sigma = sigma_for(mu_r=float(facts.mu or 0), sensitivity=GRID)
    plan = RoundPlan(
        population="readers",
        run="run-1",
        round=0,
        attempt=0,
        model_hash=model.hash,
        algorithm="verdict",
        settings=settings,
        facts=facts,
        layout=algorithm.layout(model.state, 0),
        clip_norm=1.0,
        grid=GRID,
        sigma=sigma,
        dp=DpMode.DISTRIBUTED,
        noise=Noise.SEEDED,
        cohort_floor=50,
        cohort=CohortTerms(n_max=100, n_min=90, c_max=10, masks=False),
        mu2=charged_mu2(sensitivity=GRID, sigma=sigma),
        expires=4_102_444_800,
    )
    signed, _ = charged(plan)
    clipped = clip(algorithm.contribute(model.state, 0, histories), plan.layout, clip_norm=1.0, grid=GRID)
    integers = [clipped.vector(user).astype("<i4") for user in range(histories.n_users)]
    one = histories.user(3)
    share = add_shares(
        clip(algorithm.contribute(model.state, 0, one), plan.layout, clip_norm=1.0, grid=GRID),
        plan,
        share_source(plan, [3]),
    )
    answer = ContributionHeader(
        run=plan.run, round=0, attempt=0, plan_hash=plan.hash, users=1, rejected=0, size=len(share.steps)
    )
    users = [histories.user(row) for row in range(histories.n_users)]
    return {
        "what": what,
        "signed_plan": signed.to_bytes().decode(),
        "model_file_hex": model.data.hex(),
        "histories": [
            {"items": each.indices.tolist(), "weights": each.weights.astype(float).tolist()} for each in users
        ],
        "integers_hex": [each.tobytes().hex() for each in integers],
        "answer_of_history_3_hex": encode_share(answer, share, bits=plan.bits(1)).hex(),
    }
