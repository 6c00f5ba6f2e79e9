"""The bundle: the files through which Flower's processes learn what to run.

    FOLDER/app/pyproject.toml    names the INSTALLED apps and the run-config; no code travels
    FOLDER/flwr/config.toml      where the SuperLink listens (FLWR_HOME)
    FOLDER/job.json              what the ServerApp needs
    FOLDER/histories/            what the nodes host, memory-mapped by each worker, unless it lies in a folder already
    FOLDER/progress.jsonl        written by the ServerApp, read by the engine, and a model file a release

The folder lies in the run folder, only its owner can read it, and it is removed with the engine.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from palate_common.interactions import Interactions, save_interactions
from palate_common.records.key_file import load_key
from palate_sim.engines.flower.server_app import ServerJob
from palate_sim.engines.job import Job
from palate_sim.engines.node import DEVICES, FLOORS, HISTORIES, PUBLIC_KEY, SIZE

CONNECTION = "palate"
"""Name of the SuperLink in Flower's configuration."""


def write_bundle(folder: Path, job: Job, histories: Interactions, *, port: int) -> None:
    """Write everything that Flower's processes read.

    Args:
        folder: an empty private folder.
        job: the run, with absolute paths.
        histories: one row a user.
        port: where the SuperLink will listen on the loopback interface.
    """
    for name in ("app", "flwr"):
        (folder / name).mkdir()
    place = folder / "histories" if job.histories is None else job.histories.resolve()
    if job.histories is None:
        save_interactions(place, histories)
    nodes = job.nodes(histories.n_users)
    server = ServerJob(folder=job.folder, terms=job.terms, ledger=job.ledger, key=job.key, nodes=nodes)
    (folder / "job.json").write_text(server.model_dump_json(), encoding="utf-8")
    config: dict[str, str | int] = {
        "job": str(folder / "job.json"),
        HISTORIES: str(place),
        DEVICES: str(job.devices),
        PUBLIC_KEY: load_key(job.key).public,
        FLOORS: json.dumps(asdict(job.floors)),
        SIZE: job.users_per_node,
    }
    (folder / "app" / "pyproject.toml").write_text(_project(config), encoding="utf-8")
    (folder / "flwr" / "config.toml").write_text(_connection(port), encoding="utf-8")


def _project(config: dict[str, str | int]) -> str:
    """The project file of a Flower app without code of its own."""
    # JSON strings and numbers are TOML's; non-ASCII stays as it is, because TOML has no surrogate pairs.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in config.items()]
    return "\n".join(
        (
            "[project]",
            'name = "palate-run"',
            'version = "0.1.0"',
            'description = "One run of Palate: names the installed apps"',
            'license = "Apache-2.0"',
            "[tool.flwr.app]",
            'publisher = "palate"',
            "[tool.flwr.app.components]",
            'serverapp = "palate_sim.engines.flower.server_app:app"',
            'clientapp = "palate_sim.engines.node:app"',
            "[tool.flwr.app.config]",
            *lines,
            "",
        )
    )


def _connection(port: int) -> str:
    """Flower's configuration: one SuperLink, on this machine."""
    return "\n".join(
        (
            "[superlink]",
            f'default = "{CONNECTION}"',
            f"[superlink.{CONNECTION}]",
            f'address = "127.0.0.1:{port}"',
            "insecure = true",
            "",
        )
    )
