"""The ClientApp of simulated devices: what a Flower node of a simulation runs, many installations to a node.

Flower loads `palate_sim.engines.node:app` from the INSTALLED package, never from a bundle that a server sends.
"""

from __future__ import annotations

import json
import threading
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from flwr.app import Context
from pydantic import TypeAdapter, ValidationError

from palate_common.interactions import map_interactions
from palate_core.device.floors import Floors
from palate_core.errors import InputError
from palate_sim.engines.client_app import Host, Shards, node_app
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

HISTORIES, DEVICES, PUBLIC_KEY, FLOORS, SIZE = "histories", "devices", "public-key", "floors", "users-per-node"


def host_from_config(context: Context) -> Host:
    """The host of simulated devices that a run's config describes, opened once per process.

    Their ledger is a file, so that it outlives the process, but it doesn't wait for the disk on every charge.

    Run-config keys: `histories` (a folder that `map_interactions` maps), `users-per-node`, `devices` (the device
    ledger's file), `public-key`, and `floors` (JSON).

    Raises:
        InputError: a key is missing, or its value is invalid.
    """
    config = context.run_config
    try:
        histories, devices, public_key, floors = (str(config[key]) for key in (HISTORIES, DEVICES, PUBLIC_KEY, FLOORS))
        return _open_host(_Hosted(histories, devices, public_key, floors, int(config[SIZE])))
    except KeyError as error:
        raise InputError(f"the run-config must name {error}, got {sorted(config)}") from None


def close_host() -> None:
    """Close the ledger of this process's open host, if there is one; the next message opens it again."""
    with _opening:
        while _opened:
            _, (_, ledger) = _opened.popitem()
            ledger.close()


class _Hosted(NamedTuple):
    """A run's config, as far as its host follows from it, and from nothing else."""

    histories: str
    devices: str
    public_key: str
    floors: str
    users_per_node: int


def _open_host(hosted: _Hosted) -> Host:
    """Open the host of a run, and close the one of another run."""
    with _opening:
        if hosted not in _opened:
            source = Shards(map_interactions(Path(hosted.histories)), hosted.users_per_node)
            insisted = _floors(hosted.floors)
            ledger = SimulatedLedger(hosted.devices, durable=False)
            close_host()
            _opened[hosted] = Host(source, ledger, hosted.public_key, insisted), ledger
        return _opened[hosted][0]


def _floors(text: str) -> Floors:
    """Read floors from JSON. An unknown name is refused, because it would have no effect."""
    try:
        given = json.loads(text)
        unknown = set(given) - {each.name for each in fields(Floors)}
        if not unknown:
            return TypeAdapter(Floors).validate_python(given)
    except (ValidationError, ValueError, TypeError):
        pass
    raise InputError(f"`{FLOORS}` must be a JSON object of floors, got {text!r:.80}")


_opening = threading.RLock()
_opened: dict[_Hosted, tuple[Host, SimulatedLedger]] = {}
"""The open host and its ledger, by its configuration: at most one."""

app = node_app(host_from_config)
