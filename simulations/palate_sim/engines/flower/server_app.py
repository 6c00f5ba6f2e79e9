"""The ServerApp: a run's coordinator behind a Flower SuperLink.

    flwr run -> SuperLink -> main -> open_job -> run_rounds -> GridTransport -> nodes

Flower loads `palate_sim.engines.flower.server_app:app` from the INSTALLED package, never from the app bundle that it
gets. The run-config key `job` names a file with a `ServerJob`. The app writes its progress to a file beside the job,
line by line, because Flower reports neither the progress of a ServerApp nor, in its exit code, a failure:

    {"event": "training"}    nodes are online; the first charge comes next
    {"event": "release", "plan": {...}, "aggregate": {...}, "model": "model-1.safetensors"}
    {"event": "trained", "model": "model-1.safetensors"} or {"event": "failed", "kind": "BudgetError", "error": "..."}
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field

from palate_common.models.model import GlobalModel
from palate_common.records.files import write_durably
from palate_common.records.key_file import load_key
from palate_core.errors import PalateError
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.run import open_run, run_rounds
from palate_server.rounds.terms import RunTerms
from palate_sim.engines.grid_transport import GridTransport

app = ServerApp()

ROLL_CALL = 8
"""Number of nodes that must answer a first query. Ray's workers import the app when the first message comes."""


class ServerJob(BaseModel):
    """What the server needs for one run; the ServerApp's process reads it from a JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """The existing run folder."""
    terms: RunTerms
    ledger: Path
    """The population's ledger."""
    key: Path
    """The file of the release key, readable by its owner only."""
    nodes: int = Field(default=1, ge=1)
    """Nodes that must be online before the first charge."""
    online_seconds: float = Field(default=300.0, gt=0)
    """Seconds to wait for them."""


def open_job(job: ServerJob) -> AbstractContextManager[Coordinator]:
    """Open the run of a job, see `open_run`."""
    return open_run(job.terms, job.folder, ledger=job.ledger, key=load_key(job.key))


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, and write the progress to the folder of the job file."""
    file = Path(str(context.run_config["job"]))
    progress = ProgressFile(file.parent)
    try:
        job = ServerJob.model_validate_json(file.read_bytes())
        with open_job(job) as coordinator:
            await_nodes(grid, job.nodes, seconds=job.online_seconds)
            progress.tell("training")
            transport = GridTransport(grid, ttl=job.terms.plan_seconds)
            run_rounds(coordinator, transport, on_release=progress.release)
            final = progress.model(coordinator.model)
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else repr(error)
        progress.tell("failed", kind=type(error).__name__, error=text)
        raise
    progress.tell("trained", model=final)


@dataclass(frozen=True)
class ProgressFile:
    """The progress of a ServerApp, for the process that waits for it.

    Attributes:
        folder: a private folder that both know, with `progress.jsonl` and one model file per release.
    """

    folder: Path

    def tell(self, event: str, **facts: Any) -> None:
        """Append one line in a single write."""
        with (self.folder / "progress.jsonl").open("ab", buffering=0) as file:
            file.write(json.dumps({"event": event, **facts}, ensure_ascii=False).encode() + b"\n")

    def release(self, release: Release) -> None:
        """Write what an attempt has released."""
        plan, found = release.plan.model_dump(mode="json"), asdict(release.participation)
        self.tell("release", plan=plan, aggregate=found, model=self.model(release.model))

    def model(self, model: GlobalModel) -> str:
        """Write a model to the folder, and return its file name."""
        name = f"model-{model.header.releases}.safetensors"
        write_durably(self.folder / name, model.data)
        return name


def await_nodes(grid: Grid, count: int, *, seconds: float) -> None:
    """Wait until `count` nodes are online and one of them answers, so that nothing is charged for nothing.

    Raises:
        PalateError: that took longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while len(nodes := list(grid.get_node_ids())) < count:
        if time.monotonic() > deadline:
            raise PalateError(f"`nodes` must be {count} online within {seconds:g} s, got {len(nodes)}")
        time.sleep(0.1)
    queries = [Message(RecordDict(), node, MessageType.QUERY, ttl=seconds) for node in nodes[:ROLL_CALL]]
    replies = list(grid.send_and_receive(queries, timeout=max(0.1, deadline - time.monotonic())))
    if all(reply.has_error() for reply in replies):
        raise PalateError(f"a node must answer within {seconds:g} s, got {len(replies)} errors from {len(queries)}")
