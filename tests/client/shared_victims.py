"""A device in a process of its own that is killed: what it acknowledged goes to its output, one line each.

    python shared_victims.py TASK FOLDER JOB

`update` takes one model after another into use; `contribute` answers one plan after another.
"""

from __future__ import annotations

import json
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
    print("open", flush=True)
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
    main(*sys.argv[1:])
