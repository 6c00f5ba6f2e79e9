"""Real devices in threads: enrol, say so in a line, and sync again and again until the time is up or stdin ends.

python fleet.py JOB.json

A line on stdin is a purpose to which all of them agree from then on.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import palate
from palate_client.service import Service


def main(file: Path) -> None:
    job = json.loads(file.read_text())
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

        def one(number: int) -> None:
            rng = random.Random(number)  # noqa: S311 - when a device comes and goes
            with palate.open(Path(home) / str(number), app="bench", key=palate.new_key(), service=service) as device:
                for purpose in ("store", *job["purposes"][number]):
                    device.consent.grant(purpose, version="1")
                for step in range(5):
                    device.track(job["kind"], f"item-{(number * 13 + step * step * 7) % 200}")
                with turn:
                    turn.wait_for(lambda: turns[0] == number)
                    device.enroll(job["invitations"][number])
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

        threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
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
