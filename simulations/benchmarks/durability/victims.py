"""Victims: a process that forks devices which work until they are killed, and tell what was acknowledged.

    python victims.py <- one line of JSON a victim: {"task": ..., "run": ..., "folder": ..., "job": {...}}

Everything is imported before the first fork, so that a victim is killed at its work and not at its imports.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import palate
from palate_client import consent

KEY, APP = bytes(range(32)), "kills"
LIMITS = palate.Limits(max_per_day=10**9, window_seconds=0)
BOUND = palate.Limits(max_events=500, max_per_day=10**9, window_seconds=0)
SHOWN = 5


def opened(folder: str | Path, public_key: str = "", limits: palate.Limits = LIMITS) -> palate.Device:
    """The device as an app opens it."""
    service = None
    if public_key:
        floors = palate.Floors(allow_central=True)
        service = palate.Service(
            public_key=public_key, population="readers", epsilon=1000.0, participations=10**6, floors=floors
        )
    with mock.patch.object(consent, "_is_copy", return_value=False):  # a copied folder stands for the device's own
        return palate.open(folder, app=APP, key=KEY, limits=limits, service=service)


def say(text: str) -> None:
    """One acknowledgement, out of the process before the next step."""
    os.write(1, f"{text}\n".encode())


def track(device: palate.Device, run: str, _: dict[str, Any]) -> None:
    """One event after another."""
    for n in range(10**9):
        if device.track("view", f"item-{n % 97}", id=f"{run}-{n}"):
            say(f"{run}-{n}")


def batch(device: palate.Device, run: str, _: dict[str, Any]) -> None:
    """A hundred events after another."""
    for n in range(0, 10**9, 100):
        ids = [f"{run}-{m}" for m in range(n, n + 100)]
        if all(device.track_many([palate.Event("view", "item", id=id) for id in ids])):
            say(" ".join(ids))


def read_file(device: palate.Device, _: str, job: dict[str, Any]) -> None:
    """A file of events."""
    say(f"imported {device.import_jsonl(job['file']).stored}")


def feedback(device: palate.Device, run: str, _: dict[str, Any]) -> None:
    """Lists that were shown, and a click on the first of each."""
    for n in range(10**9):
        shown = device.recommend(SHOWN, filter_already_liked_items=False)
        click = palate.Event("click", shown[0].item, id=f"{run}-{n}")
        if all(device.feedback(shown, {shown[0].item: click})):
            say(f"{run}-{n}")


def update_model(device: palate.Device, _: str, job: dict[str, Any]) -> None:
    """One model after another."""
    for folder in job["models"]:
        device.update_model(folder)
        say(Path(folder).name)


def contribute(device: palate.Device, _: str, job: dict[str, Any]) -> None:
    """One plan after another."""
    model = Path(job["model"]).read_bytes()
    for plan in job["plans"]:
        answer = device.contribute(Path(plan).read_bytes(), model)
        say(json.dumps({"plan": Path(plan).name, "bytes": len(answer), "refusal": device.refusal}))


def erase(device: palate.Device, _: str, __: dict[str, Any]) -> None:
    """All of it."""
    device.erase()
    say("erased")


TASKS: dict[str, Callable[[palate.Device, str, dict[str, Any]], None]] = {
    "track": track,
    "feedback": feedback,
    "update_model": update_model,
    "contribute": contribute,
    "erase": erase,
    "batch": batch,
    "import": read_file,
    "retention": track,
}


def main() -> None:
    """Fork a victim a line; the harness kills it and asks for it to be reaped."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                asked = json.loads(line)
                limits = BOUND if asked["task"] == "retention" else LIMITS
                device = opened(asked["folder"], asked["job"].get("public_key", ""), limits)
                say("begin")
                TASKS[asked["task"]](device, asked["run"], asked["job"])
            except BaseException as error:
                say(f"failed {error!r}")
            os._exit(0)
        say(f"pid {child}")
        sys.stdin.readline()  # until then the number is the victim's, dead or alive
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
