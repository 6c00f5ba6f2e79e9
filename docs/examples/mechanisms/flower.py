"""Flower's own DP strategies, over a grid in this process.

    ServerApp strategy.start(grid) -> a reply of arrays a client -> clip -> FedAvg -> noise -> arrays

With client-side clipping, Flower's own mod clips in the client app, before the reply leaves it.

Each canary is a client whose reply is the global array plus its own row. The audit tests how far the array moved.
Flower divides by the norm of an update, so a client that changes nothing raises an error: an absent canary moves one
coordinate by 10^-12 of the clipping norm.

The claim is the Gaussian mechanism with this `noise_multiplier`, and equal weights of all clients; Flower states an
epsilon only if it is given an accountant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
)

from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released
from palate_core.accounting import epsilon_of
from palate_sim.engines.grid import LocalGrid

CLIENTS, SIZE, LONG = 500, 2000, 8000
NOISE_MULTIPLIER, CLIPPING_NORM, DELTA = 1.0, 0.5, 1e-6
NOTHING = 1e-12
HEAVY, FEW = 50, 50
"""Examples that a heavy client reports, and the number of such clients."""
ARRAYS = "arrays"


@dataclass(frozen=True)
class FlowerStrategy:
    """One round of one of Flower's strategies.

    Attributes:
        option: its name, for the report.
        wrap: makes the strategy around FedAvg.
        sigma: standard deviation of the noise that it must add to the mean.
        noise_multiplier: the claimed one.
        examples: number that the canaries report; the other clients report 1.
        users: canaries among the clients; the others change nothing.
        clients: number of all clients.
        mods: of the client app.
    """

    option: str
    wrap: Callable[[FedAvg], Any]
    sigma: float
    noise_multiplier: float = NOISE_MULTIPLIER
    examples: int = 1
    users: int = CLIENTS
    clients: int = CLIENTS
    dimension: int = SIZE
    repeatable: bool = False
    mods: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """Flower's version and the strategy's option."""
        return f"Flower {version('flwr')}, {self.option}"

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block, the array."""
        return (self.dimension,)

    @cached_property
    def claim(self) -> Claim:
        """The claim: one client moves the mean by C / n."""
        release = ReleaseClaim(sensitivity=CLIPPING_NORM / self.clients, sigma=self.sigma)
        mu = 1 / self.noise_multiplier
        return Claim(epsilon=epsilon_of(mu=mu, delta=DELTA), delta=DELTA, releases=(release,), mu=mu)

    def run(self, contributions: Contributions, *, seed: int | None = None) -> Released:
        """Run one round; return how far the array moved."""
        with _quiet():
            grid = _Grid(self._client(contributions), nodes=self.clients)
            strategy = self.wrap(_everybody(self.clients))
            start = ArrayRecord([np.zeros(self.dimension)])
            result = strategy.start(grid=grid, initial_arrays=start, num_rounds=1)
        (moved,) = result.arrays.to_numpy_ndarrays()
        return Released((np.asarray(moved, np.float64),))

    def _client(self, contributions: Contributions) -> ClientApp:
        """A client app that replies with the array plus the client's row."""
        client = ClientApp(mods=list(self.mods))

        @client.train()
        def train(message: Message, context: Context) -> Message:
            user = int(context.node_config["partition-id"])
            (array,) = message.content.array_records[ARRAYS].to_numpy_ndarrays()
            place = min(user, self.users - 1)
            mine = slice(contributions.indptr[place], contributions.indptr[place + 1])
            array = array.copy()
            if user < self.users:
                array[contributions.indices[mine]] += contributions.values[mine] * CLIPPING_NORM
            if user >= self.users or mine.start == mine.stop:
                array[0] += NOTHING * CLIPPING_NORM
            examples = self.examples if user < self.users else 1
            content = RecordDict()
            content[ARRAYS] = ArrayRecord({"0": Array(array)})
            content["metrics"] = MetricRecord({"num-examples": examples})
            return Message(content, reply_to=message)

        return client


def fixed_clipping() -> FlowerStrategy:
    """Fixed clipping, clients of equal weight."""
    return FlowerStrategy("server-side fixed clipping, equal num-examples", _fixed, _mean_noise(NOISE_MULTIPLIER))


def client_side_clipping() -> FlowerStrategy:
    """Fixed clipping by the mod in the client app, clients of equal weight."""
    option = "client-side fixed clipping by its mod, equal num-examples"
    return FlowerStrategy(option, _client_side, _mean_noise(NOISE_MULTIPLIER), mods=(fixedclipping_mod,))


def fixed_clipping_weighted() -> FlowerStrategy:
    """Fixed clipping, no accountant: the canaries report more examples, which is FedAvg's default weight."""
    option = (
        f"server-side fixed clipping, no accountant, num-examples {HEAVY} for {FEW} of {CLIENTS} clients and 1 else"
    )
    return FlowerStrategy(option, _fixed, _mean_noise(NOISE_MULTIPLIER), examples=HEAVY, users=FEW)


def adaptive_clipping() -> FlowerStrategy:
    """Adaptive clipping, the first round: only its arrays, not the norm for the next round.

    The claimed noise is relative to the norm that the round was clipped with.
    """
    # Andrew et al. 2021: a part of the noise multiplier is for the count of clipped clients.
    count_noise = CLIENTS / 20
    arrays = (NOISE_MULTIPLIER**-2 - (2 * count_noise) ** -2) ** -0.5
    option = "server-side adaptive clipping, round 1, equal num-examples"
    return FlowerStrategy(option, _adaptive, _mean_noise(arrays), dimension=LONG)


def _mean_noise(noise_multiplier: float) -> float:
    return noise_multiplier * CLIPPING_NORM / CLIENTS


def _fixed(inner: FedAvg) -> Any:
    return DifferentialPrivacyServerSideFixedClipping(
        inner, noise_multiplier=NOISE_MULTIPLIER, clipping_norm=CLIPPING_NORM, num_sampled_clients=CLIENTS
    )


def _client_side(inner: FedAvg) -> Any:
    return DifferentialPrivacyClientSideFixedClipping(
        inner, noise_multiplier=NOISE_MULTIPLIER, clipping_norm=CLIPPING_NORM, num_sampled_clients=CLIENTS
    )


def _adaptive(inner: FedAvg) -> Any:
    return DifferentialPrivacyServerSideAdaptiveClipping(
        inner,
        noise_multiplier=NOISE_MULTIPLIER,
        num_sampled_clients=CLIENTS,
        initial_clipping_norm=CLIPPING_NORM,
    )


class _Grid(LocalGrid):
    """Replies as a list, as from Flower's own grids: the adaptive strategy iterates over them twice."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """All replies."""
        return list(super().send_and_receive(messages, timeout=timeout))


def _everybody(users: int) -> FedAvg:
    return FedAvg(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=users,
        min_evaluate_nodes=0,
        min_available_nodes=users,
        arrayrecord_key=ARRAYS,
    )


@contextmanager
def _quiet() -> Any:
    """Silence Flower's log of every step."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
