"""The same work in Flower's stock simulation: Ray, one virtual node a user, FedAvg with server-side clipping and noise.

    python work_a_flower.py FOLDER '{"seed": 0, "cohort": 20, "rounds": 3, "size": 32, "users": 1000}'

FOLDER holds a population as indptr.npy, indices.npy and n_items.npy. Prints a JSON line: the CPU-seconds of all
processes between the first round and the end, and what the start took before it. Ray's processes don't become children
of anybody who waits for them, so that their time is read from the system while they live.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.simulation import run_simulation

RATE, CLIP, NOISE = 0.1, 0.5, 4.0
BEGUN = time.perf_counter()


@cache
def population(folder: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Histories, mapped: once a process."""
    return np.load(f"{folder}/indptr.npy", mmap_mode="r"), np.load(f"{folder}/indices.npy", mmap_mode="r")


def trained(table: npt.NDArray[np.float32], own: npt.NDArray[Any], seed: int) -> npt.NDArray[np.float32]:
    """One full-batch step on cross-entropy, on positives and as many sampled items."""
    items = np.concatenate([own, np.random.default_rng(seed).integers(0, len(table), len(own))])
    labels = np.repeat(np.float32([1, 0]), len(own))
    vectors = table[items]
    user = vectors[: len(own)].mean(0)
    slope = 1 / (1 + np.exp(-(vectors @ user))) - labels
    stepped = table.copy()
    np.subtract.at(stepped, items, np.float32(RATE) * slope[:, None] * user)
    return stepped


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """A node's step: its partition is a user."""
    indptr, indices = population(str(message.content["config"]["folder"]))
    user = int(context.node_config["partition-id"])
    [table] = message.content["arrays"].to_numpy_ndarrays()
    stepped = trained(table, indices[indptr[user] : indptr[user + 1]], user)
    content = RecordDict({"arrays": ArrayRecord([stepped]), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)


def serve(grid: Grid, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Rounds of a sampled cohort, and what they took."""
    n_items, cohort, users = int(np.load(folder / "n_items.npy")), facts["cohort"], facts["users"]
    table = np.random.default_rng(facts["seed"]).normal(0, 0.03, (n_items, facts["size"])).astype(np.float32)
    plain = FedAvg(fraction_train=cohort / users, fraction_evaluate=0.0, min_available_nodes=users)
    private = DifferentialPrivacyServerSideFixedClipping(plain, NOISE, CLIP, cohort)
    where = ConfigRecord({"folder": str(folder)})
    private.start(grid, ArrayRecord([table]), num_rounds=1, train_config=where)  # what is imported once
    begun, wall = spent(), time.perf_counter()
    private.start(grid, ArrayRecord([table]), num_rounds=facts["rounds"], train_config=where)
    found = {"start": begun, "start_wall": wall - BEGUN, "cpu": spent() - begun, "wall": time.perf_counter() - wall}
    return found | {"memory": sum(each.memory_info().rss for each in processes())}


def processes() -> list[psutil.Process]:
    """This process and all that descend from it."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def spent() -> float:
    """CPU-seconds of all processes, as far as they live or were waited for."""
    return float(sum(sum(each.cpu_times()) for each in processes()))


def main(folder: Path, facts: dict[str, Any]) -> None:
    """Run, and print what was found."""
    server, found = ServerApp(), dict[str, Any]()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        found.update(serve(grid, folder, facts))

    resources = {"client_resources": {"num_cpus": 1.0, "num_gpus": 0.0}}
    run_simulation(server, client, num_supernodes=facts["users"], backend_config=resources)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    import work_a_flower  # by its name: Ray's workers import what they run

    work_a_flower.main(Path(sys.argv[1]), json.loads(sys.argv[2]))
