"""The ServerApp of these tests: the project's rounds over the real SuperLink, one job after the other.

    python served.py FOLDER PORT

It takes its own task at the SuperLink, once. A test leaves `job-N.json` in its folder, and finds `done-N.json` there.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.superlink.grid.http_grid import HttpGrid
from palate_server.flower.grid import PromptGrid
from palate_server.flower.spread_grid import Connection
from palate_server.flower.superlink_state import LinkControl
from palate_server.flower.task import identify, join, keep

from palate_common.records.files import write_durably
from palate_core.masks.directory import Directory
from palate_server.flower.app import ServerJob, open_job
from palate_server.flower.transport import GridTransport
from palate_server.rounds.coordinator import Release
from palate_server.rounds.run import run_rounds
from palate_server.rounds.shelf import ModelShelf

LOOK = 0.1


def nodes(grid: Grid, count: int, seconds: float) -> list[int]:
    """Wait until so many are online, and none of them has just gone."""
    deadline = time.monotonic() + seconds
    while len(found := sorted(grid.get_node_ids())) != count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} nodes were expected online, got {len(found)}")
        time.sleep(LOOK)
    return found


def serve(grid: Grid, request: dict[str, Any], shelf: ModelShelf) -> dict[str, Any]:
    """Do one job."""
    releases: list[dict[str, Any]] = []

    def told(release: Release) -> None:
        facts = release.participation
        releases.append(
            {
                "users": facts.users,
                "malformed": facts.malformed_nodes,
                "model": release.model.hash,
                "round": release.plan.round,
            }
        )

    online = nodes(grid, request["nodes"], request["seconds"])
    for raw in request.get("messages", ()):
        record = {name: bytes.fromhex(value) for name, value in raw.items()}
        asked = [Message(RecordDict({"palate": ConfigRecord(record)}), node, MessageType.TRAIN) for node in online]
        for reply in grid.send_and_receive(asked, timeout=request["timeout"]):
            value = next(iter(reply.content["palate"].values()))
            releases.append({"answer": value.hex()})
    if request["job"] is not None:
        job = ServerJob.model_validate(request["job"])
        directory = None if request["directory"] is None else Directory.load(request["directory"])
        with open_job(job) as coordinator:
            transport = GridTransport(grid, ttl=job.terms.plan_seconds, timeout=request["timeout"])
            given: dict[str, Any] = {"directory": directory, "shelf": shelf}
            run_rounds(coordinator, transport, **given, on_release=told, most=request["rounds"])
            model = coordinator.model.hash
    else:
        model = None
    if request["come_back"] is not None:
        record = ConfigRecord({"come_back": request["come_back"]})
        home = [Message(RecordDict({"palate": record}), node, MessageType.QUERY) for node in grid.get_node_ids()]
        for _ in grid.send_and_receive(home, timeout=10):
            pass
    return {"releases": releases, "model": model}


def main(folder: Path, port: int) -> None:
    """Serve jobs until the folder is told to stop."""
    connection = Connection(0, partial(join, control(folder, port)))
    until = time.monotonic() + 60
    grid = connection.grid(until=lambda: time.monotonic() > until)
    identify(grid.run)
    keep([connection])
    (folder / "serving").touch()
    while not (folder / "stop").exists():
        waiting = [
            file for file in folder.glob("job-*.json") if not (folder / file.name.replace("job", "done")).exists()
        ]
        for file in waiting:
            try:
                used: Grid = PromptGrid(grid)
                if (folder / "stock").exists():
                    used = grid
                    vars(grid)["push_messages"] = lambda each: HttpGrid.push_messages(
                        grid, list(each)
                    )  # it reads them twice
                outcome = serve(used, json.loads(file.read_text()), ModelShelf(folder / "public" / "round"))
            except Exception as error:
                outcome = {"error": f"{type(error).__name__}: {error}"}
            write_durably(folder / file.name.replace("job", "done"), json.dumps(outcome).encode())
        time.sleep(LOOK)


def control(folder: Path, port: int) -> LinkControl:
    """Of the SuperLink whose files are in a folder."""
    config = SimpleNamespace(gateway=SimpleNamespace(superlink_ports=[port]))
    site: Any = SimpleNamespace(config=config, tls=folder, superlink_secret=folder / "secret")
    return LinkControl(site)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
