"""Devices in processes of their own that are killed: what they acknowledged goes to the output, one line each.

On each line "TASK FOLDER JOB" of its input it forks such a process, which says "open PID", and says "dead" once that
has ended; the number is free for others after one more line.
`update` takes one model after another into use; `contribute` answers one plan after another.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import palate

KEY = bytes(range(32))


def main(task: str, folder: str, job: str) -> None:
    """Work until killed, or done."""
    parts = json.loads(Path(job).read_text())
    floors = palate.Floors(allow_seeded=True, allow_central=True)
    service = palate.Service(
        public_key=parts["public_key"], population="readers", epsilon=1000, participations=10**6, floors=floors
    )
    device = palate.open(folder, app="shelf", key=KEY, service=service)
    print(f"open {os.getpid()}", flush=True)
    if task == "update":
        for model in parts["models"]:
            device.update_model(model)
            print(Path(model).name, flush=True)
        return
    model = Path(parts["model"]).read_bytes()
    for plan in parts["plans"]:
        answer = device.contribute(Path(plan).read_bytes(), model)
        print(json.dumps({"plan": Path(plan).name, "bytes": len(answer), "refusal": device.refusal}), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            main(*line.split())
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        print("dead", flush=True)
        sys.stdin.readline()
        os.waitpid(child, 0)
