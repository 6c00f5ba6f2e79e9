"""Real devices in threads, many in several processes: enrol, say so in a line, and sync until stdin or the time ends.

python fleet.py JOB.json

A line on stdin is a purpose to which all of them agree from then on. In one process more threads than some hundred
starve each other.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import palate
from palate_client.service import Service

EACH = 125
"""The most devices in a process."""


def main(file: Path) -> None:
    job = json.loads(file.read_text())
    (several if len(job["invitations"]) > EACH else alone)(job)


def several(job: dict[str, Any]) -> None:
    """Devices in processes of their own, which begin one after another: who enrols later has a higher number."""
    fleets = list[subprocess.Popen[str]]()
    with tempfile.TemporaryDirectory() as home:
        for first in range(0, len(job["invitations"]), EACH):
            part = {name: job[name][first : first + EACH] for name in ("invitations", "purposes")}
            file = Path(home) / f"{first}.json"
            file.write_text(json.dumps(job | part | {"first": first}))
            command = [sys.executable, __file__, str(file)]
            fleets.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            fleets[-1].stdout.readline()
        print("enrolled", flush=True)
        for line in sys.stdin:
            for fleet in fleets:
                print(line, end="", file=fleet.stdin, flush=True)
        for fleet in fleets:
            fleet.stdin.close()
        counted = [json.loads(fleet.stdout.read()) for fleet in fleets]
    print(json.dumps({name: sum(each[name] for each in counted) for name in counted[0]}), flush=True)


def alone(job: dict[str, Any]) -> None:
    """Devices in threads of this process."""
    first = json.loads(job["invitations"][0])
    floors = palate.Floors(allow_central=True, allow_seeded=job["seeded"]).for_few()
    service = Service(
        public_key=first["public_key"],
        population=first["population"],
        epsilon=1e5,
        participations=10**6,
        floors=floors,
    )
    over, devices = threading.Event(), list[palate.Device]()
    count, enrolled = len(job["invitations"]), threading.Barrier(len(job["invitations"]) + 1)
    turn, turns = threading.Condition(), [0]  # device numbers are those of the events
    totals = {"rounds": 0, "exchanges": 0, "requests": 0, "refused": 0, "syncs": 0, "sent": 0, "received": 0}
    lock = threading.Lock()

    with tempfile.TemporaryDirectory() as home:

        def one(place: int) -> None:
            number = job["first"] + place
            rng = random.Random(number)  # noqa: S311 - when a device comes and goes
            with palate.open(Path(home) / str(place), app="bench", key=palate.new_key(), service=service) as device:
                for purpose in ("store", *job["purposes"][place]):
                    device.consent.grant(purpose, version="1")
                for step in range(5):
                    device.track(job["kind"], f"item-{(number * 13 + step * step * 7) % 200}")
                with turn:
                    turn.wait_for(lambda: turns[0] == place)
                    device.enroll(job["invitations"][place])
                    devices.append(device)
                    turns[0] += 1
                    turn.notify_all()
                enrolled.wait()
                while not over.is_set():
                    if rng.random() < job["churn"]:
                        over.wait(rng.uniform(1.0, 10.0))
                        continue
                    window = job["windows"][number % len(job["windows"])]
                    result = device.sync(seconds=window, stop=over, poll_seconds=0.5)
                    with lock:
                        totals["syncs"] += 1
                        for name in ("rounds", "exchanges", "requests", "refused", "sent", "received"):
                            totals[name] += getattr(result, name)
                    over.wait(result.next if job["patient"] and result.next else 1.0)

        threads = [threading.Thread(target=one, args=(place,), daemon=True) for place in range(count)]
        for thread in threads:
            thread.start()
        enrolled.wait()
        print("enrolled", flush=True)
        begun = time.monotonic()

        def watch() -> None:
            for line in sys.stdin:
                purpose: Any = line.strip()
                for device in devices:
                    device.consent.grant(purpose, version="1")
            over.set()

        threading.Thread(target=watch, daemon=True).start()
        while not over.wait(0.5):
            if time.monotonic() - begun > job["seconds"]:
                over.set()
        for thread in threads:
            thread.join(20.0)
    print(json.dumps(totals), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
