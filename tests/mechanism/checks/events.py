"""D, I and K for dp local with one event as the unit: sensitivity to one event, the noise of each step, and the coins.

A device's noised steps run through the production functions, on synthetic histories and a synthetic public table. To
measure one event's effect, the results of earlier steps are held fixed: they are noised, so the next step may use them.

**Assumes:** a seeded source goes through the code that a secure one goes through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from palate_audit.harness.recording import RecordedSource, recorded

from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.accounting.sampled import attempt_mu2
from palate_common.algorithms import EventAlgorithm, PublicFacts, State
from palate_common.algorithms.event_mf import EventMf, EventMfSettings
from palate_common.interactions import Interactions
from palate_common.mechanism.update import Float64, Int64
from palate_core.errors import IntegrityError
from palate_core.layout import layout_size
from palate_core.noise.randomness import SecureSource, SeededSource, Source
from palate_core.plan import Noise, RoundPlan, Sampling
from palate_core.privacy_mode import LOCAL

ITEMS, USERS, EVENTS, SIZE = 40, 24, 9, 4
GRID, SIGMA = 2**14, 2**15
IDLE = 4000
"""Devices without events, whose user steps consist of noise alone."""


class _Held(EventMf):
    """The algorithm with fixed user vectors: it keeps the sums that each step received and returns `given`."""

    def __init__(self, real: EventMf, given: Float64) -> None:
        super().__init__(real.settings, real.facts)
        self.given, self.told = given, list[Float64]()

    def user_step(self, users: Float64, sums: Float64) -> Float64:
        """Keep the sums and return the fixed vectors."""
        self.told.append(sums)
        return np.broadcast_to(self.given, users.shape).copy()


@lru_cache(maxsize=4)
def _made(inclusion: float = 1.0, steps: int = 3) -> tuple[EventMf, State, RoundPlan]:
    """An algorithm after its first release, and the plan of its second round."""
    facts = PublicFacts(n_users=USERS, n_items=ITEMS, mu=1.0, seed=4, local=True)
    settings = EventMfSettings(embedding_size=SIZE, inclusion=inclusion, user_steps=steps - 1)
    algorithm = EventMf(settings, facts)
    counts = np.linspace(USERS, 1, ITEMS)
    state = algorithm.release(algorithm.start(), 0, {"counts": counts}, {"counts": 0.5})
    events = Sampling(inclusion=inclusion, steps=steps)
    plan = RoundPlan(
        population="audited", run="events", round=1, attempt=0, model_hash="0" * 64, algorithm=algorithm.name,
        settings=settings.model_dump(), facts=facts, layout=algorithm.layout(state, 1), clip_norm=1.0, grid=GRID,
        sigma=SIGMA, dp=LOCAL.name, noise=Noise.SECURE, cohort_floor=1, events=events,
        mu2=attempt_mu2(GRID, SIGMA, events), expires=2**31,
    )  # fmt: skip
    return algorithm, state, plan


def _steps(algorithm: EventAlgorithm, state: State, plan: RoundPlan, histories: Interactions, source: Source) -> Int64:
    """A node's message, made by the production function."""
    found: Int64 = vars(contribution)["event_steps"](algorithm, state, plan, histories, source).steps
    return found


def _histories(rows: list[list[int]]) -> Interactions:
    sizes = [len(row) for row in rows]
    items = [item for row in rows for item in row]
    return Interactions.from_pairs(np.repeat(np.arange(len(rows)), sizes), items, n_users=len(rows), n_items=ITEMS)


def one_event(*, quick: bool = False) -> Finding:
    """Remove each event of some histories: how far the sent sum moves, with the earlier noised results fixed.

    Args:
        quick: a third of the histories.
    """
    test, rng, worst = "D sensitivity: local, one event", np.random.default_rng(3), 0
    algorithm, state, plan = _made()
    for _ in range(USERS // 3 if quick else USERS):
        items = rng.choice(ITEMS, EVENTS, replace=False).tolist()
        held = _Held(algorithm, rng.normal(size=(1, SIZE)))
        base = _steps(held, state, plan, _histories([items]), SeededSource(b"one"))
        for item in items:
            rest = _histories([[each for each in items if each != item]])
            moved = base - _steps(held, state, plan, rest, SeededSource(b"one"))
            worst = max(worst, sum(int(step) ** 2 for step in moved.tolist()))
    said = f"one event moves what is sent by at most {math.sqrt(worst):.2f} steps, {GRID} are charged"
    return Finding.checked(test, worst <= GRID**2, said, squared=str(worst))


def every_step() -> Iterator[Finding]:
    """Devices without events: the noise of each user step, and of the message."""
    from scipy.stats import chi2  # type: ignore[import-untyped]  # ships no types

    algorithm, state, plan = _made()
    held = _Held(algorithm, np.zeros((1, SIZE)))
    sent = _steps(held, state, plan, _histories([[] for _ in range(IDLE)]), SecureSource()).astype(np.float64)
    step = plan.clip_norm / plan.grid
    parts = {f"user step {number}": told.ravel() / step for number, told in enumerate(held.told)}
    parts["item step"] = sent / math.sqrt(IDLE)
    yield Finding.checked(
        "I idle rounds: local, steps", len(parts) == 3, f"{len(parts)} noised sums, of 3 that are charged"
    )
    for name, noise in parts.items():
        ratio = float(np.square(noise).mean()) / plan.sigma**2
        chance = float(chi2.cdf(ratio * len(noise), len(noise)))
        said = f"variance {ratio:.4f} of what was charged, on {len(noise)} numbers"
        yield Finding.counted(f"I idle rounds: local, {name}", chance, said, ratio=ratio)


def recorded_steps() -> tuple[dict[str, tuple[Int64, int, int]], RecordedSource]:
    """Few devices without events: (noise, sigma, devices that it is the noise of) of each step, and the one source."""
    algorithm, state, plan = _made()
    held = _Held(algorithm, np.zeros((1, SIZE)))
    with recorded() as seen:
        source = vars(contribution)["share_source"](plan, range(USERS))
        sent = _steps(held, state, plan, _histories([[] for _ in range(USERS)]), source)
    step = plan.clip_norm / plan.grid
    noises = {
        f"user step {number}": (np.rint(told.ravel() / step).astype(np.int64), plan.sigma, 1)
        for number, told in enumerate(held.told)
    }
    if len(seen.sources) != 1:
        raise IntegrityError(f"the steps of a device must have one source, got {len(seen.sources)}")
    return {**noises, "item step": (sent, plan.share_sigma, USERS)}, seen.sources[0]


def coins() -> Finding:
    """Coins are fresh and don't follow from the plan: two draws of one plan are never equal."""
    test = "K keystreams: coins of events, local"
    algorithm, state, plan = _made(0.5)
    counts = {"round": 0, "layout": algorithm.layout(state, 0), "events": Sampling(inclusion=0.5, steps=1)}
    quiet = plan.model_copy(update={**counts, "sigma": 64, "grid": 2**20})
    everything, size = _histories([list(range(ITEMS))]), layout_size(quiet.layout)
    sources = [vars(contribution)["share_source"](quiet, [0]) for _ in range(8)]
    sums = [_steps(algorithm, state, quiet, everything, source)[:size] for source in sources]
    drawn = [(each > 2**19).tobytes() for each in sums]
    taken = float(np.mean([np.frombuffer(each, np.bool_).mean() for each in drawn]))
    alike = len(drawn) - len(set(drawn))
    # 320 coins: a share outside 0.3 .. 0.7 has probability below 1e-12; two equal draws of 40 coins, below 1e-10.
    said = f"{alike} of {len(drawn)} draws are as another one, {taken:.2f} of the events took part where 0.5 may"
    return Finding.checked(test, alike == 0 and 0.3 < taken < 0.7, said)
