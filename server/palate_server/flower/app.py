"""The ServerApp: a run's coordinator behind a Flower SuperLink.

    flwr run -> SuperLink -> main -> opened -> PalateStrategy.start

Flower loads `palate_server.flower.app:app` from the INSTALLED package, never from the app bundle it is sent. The
run-config key `job` names a file with a `ServerJob`. What happens is told line by line in the job's progress file,
because Flower says neither how far a ServerApp got nor, in its exit code, whether it failed:

    {"event": "training"}    nodes are there; the first charge comes next
    {"event": "release", "plan": {...}, "aggregate": {...}, "model": "model-1.safetensors"}
    {"event": "trained", "model": "model-1.safetensors"} or {"event": "failed", "kind": "BudgetError", "error": "..."}
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field

from palate_common.errors import PalateError
from palate_common.models.model import GlobalModel
from palate_common.records.files import write_durably
from palate_common.records.signing import SigningKey
from palate_server.flower.strategy import PalateStrategy
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.rounds.terms import RunTerms

app = ServerApp()

ROLL_CALL = 8
"""How many nodes are asked whether they are there. Ray's workers import the app when the first message comes."""


class ServerJob(BaseModel):
    """What the server needs for one run; a JSON file carries it to the ServerApp's process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """The run folder, which exists."""
    terms: RunTerms
    ledger: Path
    """The population's ledger."""
    key: Path
    """The release key, readable by its owner alone."""
    nodes: int = Field(default=1, ge=1)
    """Nodes that must be online before the first charge."""
    online_seconds: float = Field(default=300.0, gt=0)
    """How long to wait for them."""


@contextmanager
def opened(job: ServerJob) -> Iterator[Coordinator]:
    """The run's coordinator, with the run folder locked and the ledger open for as long as the context lasts.

    Raises:
        LockedError: somebody else owns the run folder.
        InputError: key, ledger or terms don't fit.
    """
    with RunLock(job.folder) as lock, Ledger(job.ledger, population=job.terms.population) as ledger:
        key, registry = SigningKey.load(job.key), Registry(job.folder)
        yield Coordinator(job.terms, ledger=ledger, registry=registry, key=key, lock=lock)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are left, and tell how it goes in the folder of the job file."""
    file = Path(str(context.run_config["job"]))
    progress = ProgressFile(file.parent)
    try:
        job = ServerJob.model_validate_json(file.read_bytes())
        with opened(job) as coordinator:
            await_nodes(grid, job.nodes, seconds=job.online_seconds)
            progress.tell("training")
            PalateStrategy(coordinator, on_release=progress.release).start(grid)
            final = progress.model(coordinator.model)
    except Exception as error:
        text = str(error) if isinstance(error, PalateError) else repr(error)
        progress.tell("failed", kind=type(error).__name__, error=text)
        raise
    progress.tell("trained", model=final)


@dataclass(frozen=True)
class ProgressFile:
    """What a ServerApp tells the process that waits for it.

    Attributes:
        folder: a private folder that both know: `progress.jsonl`, and one model file a release.
    """

    folder: Path

    def tell(self, event: str, **facts: Any) -> None:
        """Append one line in a single write."""
        with (self.folder / "progress.jsonl").open("ab", buffering=0) as file:
            file.write(json.dumps({"event": event, **facts}, ensure_ascii=False).encode() + b"\n")

    def release(self, release: Release) -> None:
        """Tell what an attempt made public."""
        plan, found = release.plan.model_dump(mode="json"), asdict(release.participation)
        self.tell("release", plan=plan, aggregate=found, model=self.model(release.model))

    def model(self, model: GlobalModel) -> str:
        """Leave a model in the folder, whole, under its name there."""
        name = f"model-{model.header.releases}.safetensors"
        write_durably(self.folder / name, model.data)
        return name


def await_nodes(grid: Grid, count: int, *, seconds: float) -> None:
    """Wait until `count` nodes are listed and one that is asked answers: a charge should be heard by somebody.

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
