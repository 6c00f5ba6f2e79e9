"""The gateway: the process that stands between a run and a Ray cluster, and speaks to the run as a worker does.

    Workers --plan, model, nodes--> gateway --Ray--> RayWorker on any machine -> ClientApp
                    <---- answers, as they come ----

Ray ends a process whose cluster is gone without a word: it ends this one, and the run says what has happened. When the
run's command ends, so does this process, and Ray ends the actors of a process that is gone.

    python -c "from palate_sim.engines.cluster.gateway import main; main()"
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from palate_core.errors import InputError, PalateError
from palate_sim.engines.client_app import Shards
from palate_sim.engines.cluster.actors import ClusterStart, LedgerKeeper, RayWorker, anywhere, arrays_of
from palate_sim.engines.worker import Advanced, Answered, Asked, Failed, Lost, Shared, begin
from palate_sim.engines.workers import ONE_THREAD
from palate_sim.provenance import run_sources

POLL = 0.25
"""Seconds between two looks at what is done."""
READY = 120.0
"""Seconds for the cluster's workers to start."""
SILENT = 30.0
"""Seconds without an answer of the cluster's head after which it counts as gone."""


class Gateway:
    """The run's actors, and which nodes they have."""

    def __init__(self, start: ClusterStart, answers: Connection) -> None:
        self._start, self._answers = start, answers
        try:
            ray.init(
                address=start.address,
                namespace=f"palate-{os.getpid()}",
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise InputError(
                f"`engine.ray_address` must be a running Ray cluster, got {start.address}: {reason}"
            ) from None
        self._watch(ray.get_runtime_context().gcs_address)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._keeper: Any = ray.remote(LedgerKeeper).options(num_cpus=0, scheduling_strategy=here).remote(start.devices)
        number = min(start.workers or _cores(), start.nodes)
        placed = {"num_cpus": 1, "scheduling_strategy": "SPREAD", "runtime_env": {"env_vars": ONE_THREAD}}
        made = ray.remote(RayWorker).options(**placed)
        self._free: deque[Any] = deque(made.remote(anywhere(start), self._keeper) for _ in range(number))
        self._pending: deque[Asked] = deque()
        self._working: dict[Any, tuple[Any, Asked]] = {}
        self._homes: dict[int, Any] = {}
        self._seconds: dict[Any, float] = {}
        self._shards: list[Any] | None = None
        self._meet()
        self._say()

    def _watch(self, address: str) -> None:
        """End this process with a reason once the head is gone, before Ray does so without one."""
        host, _, port = address.rpartition(":")

        def look() -> None:
            heard = time.monotonic()
            while time.monotonic() - heard < SILENT:
                time.sleep(1.0)
                try:
                    with socket.create_connection((host, int(port)), timeout=2.0):
                        heard = time.monotonic()
                except OSError:
                    continue
            error = f"the head of the Ray cluster must answer as long as the run, got nothing from {address}"
            self._answers.send(
                Failed("PalateError", f"{error}: the open attempt is void and stays charged; go on with `--resume`")
            )
            os._exit(1)

        threading.Thread(target=look, daemon=True).start()

    def _meet(self) -> None:
        """Wait for the actors, compare their code with this machine's, and find out how histories reach them."""
        asked = [actor.about.remote() for actor in self._free]
        try:
            found = ray.get(asked, timeout=READY)
        except RayError as error:
            raise PalateError(f"the Ray cluster must start {len(asked)} workers, got {_line(error)}") from None
        if any(about["sources"] != run_sources() for about in found):
            raise InputError("every machine of the Ray cluster must have this version of Palate, got another on one")
        sys.stderr.write(f"{len(found)} workers on {len({about['node'] for about in found})} machines\n")
        if not all(about["folder"] for about in found):
            source = Shards(self._start.place.open(), self._start.users_per_node)
            shards = (source.shard(node)[0] for node in range(self._start.nodes))
            self._shards = [ray.put(arrays_of(shard)) for shard in shards]

    def serve(self, tasks: queue.SimpleQueue[Any]) -> None:
        """Answer until the task None comes."""
        while True:
            busy = bool(self._pending or self._working)
            try:
                task = tasks.get(block=not busy)
            except queue.Empty:
                self._go_on()
                continue
            if task is None:
                break
            if isinstance(task, Asked):
                self._pending.append(task)
            else:
                self._begin(task)
        ray.get(self._keeper.close.remote())
        ray.shutdown()

    def _begin(self, shared: Shared) -> None:
        """Give every actor the plan and model of a round; the model travels once a machine."""
        place = ray.put(shared)
        for actor in self._free:
            actor.hold.remote(place)

    def _go_on(self) -> None:
        """Give free actors nodes, nodes they have had first, and pass on what is done."""
        while self._free and self._pending:
            actor = self._free.popleft()
            asked = next((each for each in self._pending if self._homes.get(each.node) is actor), self._pending[0])
            self._pending.remove(asked)
            self._homes[asked.node] = actor
            arrays = None if self._shards is None else self._shards[asked.node - 1]
            self._working[actor.answer.remote(asked.node, arrays)] = actor, asked
        ready, _ = ray.wait(list(self._working), timeout=POLL)
        for done in ready:
            actor, asked = self._working.pop(done)
            try:
                answer, self._seconds[actor] = ray.get(done)
            except RayActorError:
                self._mourn(actor, asked)
                continue
            self._free.append(actor)
            self._answers.send(Answered(asked.exchange, asked.node, answer, self._users(), self._cpu()))
        if not ready:
            self._say()

    def _mourn(self, actor: Any, asked: Asked) -> None:
        """Ask a node of a lost machine again, on a machine that is left, within the same attempt.

        **Guarantees:** an attempt has one sum: a node's answer is passed on at most once. What is asked again has not
        been answered, and a lost actor's answer can't come later: Ray has given its call up. Nothing of the attempt has
        left the run by then, since a sum is noised, sealed and released after all answers are in. So the release has
        the distribution that was charged, and the attempt costs what it would have cost without the loss. Devices are
        charged once, too: see `LedgerKeeper.charge`.

        **Assumes:** the cluster is trusted, as it holds the histories; so an answer that was lost on it tells nobody
        anything. With secure noise the second answer has noise of its own; with seeded noise it has the same bits.
        """
        self._homes = {node: home for node, home in self._homes.items() if home is not actor}
        self._pending.appendleft(asked)
        left = len(self._free) + len(self._working)
        if not left:
            raise _LostMachineError("the last machine of the Ray cluster was lost while it worked")
        self._answers.send(
            Lost(
                f"a worker of the Ray cluster was lost; {left} go on in its place, within the same attempt, at no cost"
            )
        )

    def _say(self) -> None:
        self._answers.send(Advanced(self._users(), self._cpu()))

    def _users(self) -> int:
        users: int = ray.get(self._keeper.advanced.remote())
        return users

    def _cpu(self) -> float:
        """Processor time of this process and, up to their latest answers, of the actors."""
        return time.process_time() + sum(self._seconds.values())


class _LostMachineError(Exception):
    """A machine was lost."""


def _cores() -> int:
    """Cores of the whole cluster."""
    machines = ray.nodes()  # type: ignore[no-untyped-call] # as Ray has it
    return int(sum(each["Resources"].get("CPU", 0) for each in machines if each["Alive"])) or 1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or repr(error)


def main() -> None:
    """Serve one run; exit with 1 where it can't."""
    start, answers, tasks = begin()
    try:
        Gateway(start, answers).serve(tasks)
    except PalateError as error:
        answers.send(Failed(type(error).__name__, str(error)))
    except (_LostMachineError, RayError) as error:
        answers.send(Failed("LostError", _line(error)))
    else:
        return
    os._exit(1)  # Ray ends the actors of a process that is gone; a shutdown may wait for a cluster that is gone
