"""Flower's SecAgg+ in one process: its legacy workflow and client mod as they are, and the CPU time of its server.

CPU time is that of the whole process, because shares are combined in threads. Messages are handed over as objects: what
Flower would spend on serialising and sending them is not in the figures.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import flwr.compat.common.recorddict_compat as compat
import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow

from palate_sim.engines.grid import LocalGrid


@dataclass(frozen=True)
class FlowerCost:
    """CPU seconds of the server in all, of one surviving device, and the greatest error of the mean."""

    server_seconds: float
    device_seconds: float
    error: float


class TimedGrid(LocalGrid):
    """A grid that tells the nodes' time from the server's; some nodes are lost before they send a vector."""

    def __init__(self, client: ClientApp, *, nodes: int, lost: Collection[int]) -> None:
        super().__init__(client, nodes=nodes)
        self._lost = frozenset(lost)
        self.delivering = self.answering = 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """All replies at once: the workflow reads them twice."""
        return list(super().send_and_receive(messages, timeout=timeout))

    def _deliver(self, message: Message) -> Message:
        began = time.process_time()
        node = message.metadata.dst_node_id
        if node in self._lost and message.content[RECORD_KEY_CONFIGS][Key.STAGE] == Stage.COLLECT_MASKED_VECTORS:
            reply = Message(Error(ErrorCode.NODE_UNAVAILABLE), reply_to=message)
        else:
            reply = super()._deliver(message)
            if node not in self._lost:
                self.answering += time.process_time() - began
        self.delivering += time.process_time() - began
        return reply


def measure_flower(*, devices: int, coordinates: int, threshold: int, lost: Collection[int], seed: int) -> FlowerCost:
    """One attempt over a complete graph; node n is lost if n - 1 is in `lost`."""
    vectors = np.random.default_rng(seed).uniform(-1, 1, (devices, coordinates)).astype(np.float32)
    client = ClientApp()

    @client.train(mods=[secaggplus_mod])
    def train(message: Message, context: Context) -> Message:
        parameters = ndarrays_to_parameters([vectors[context.node_id - 1]])
        result = FitRes(Status(Code.OK, ""), parameters, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)

    grid = TimedGrid(client, nodes=devices, lost=[device + 1 for device in lost])
    manager = SimpleClientManager()
    for node in grid.get_node_ids():
        manager.register(GridClientProxy(node, grid, grid.run.run_id))
    zeros = ndarrays_to_parameters([np.zeros(coordinates, np.float32)])
    context = Context(grid.run.run_id, 0, {}, RecordDict(), {})
    strategy = FedAvg(min_fit_clients=devices, min_available_clients=devices)
    legacy = LegacyContext(context, strategy=strategy, client_manager=manager)
    legacy.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    legacy.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(zeros, True)
    began = time.process_time()
    SecAggPlusWorkflow(devices, threshold, max_weight=1)(grid, legacy)
    server = time.process_time() - began - grid.delivering
    [mean] = parameters_to_ndarrays(
        compat.arrayrecord_to_parameters(legacy.state.array_records[MAIN_PARAMS_RECORD], True)
    )
    kept = [device for device in range(devices) if device not in set(lost)]
    error = float(np.abs(mean - vectors[kept].mean(axis=0)).max())
    return FlowerCost(server, grid.answering / len(kept), error)
