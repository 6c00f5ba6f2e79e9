"""Some devices of a fleet, in a process that may be killed: a line when they are ready, then a line of what became.

python members.py JOB.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from device_fleet import FleetPlan, run_fleet  # of docs/examples

from palate_common.enrolment import Invitation
from palate_core.device.floors import Floors


def main(file: Path) -> None:
    job = json.loads(file.read_text())
    few = Floors() if len(job["invitations"]) >= 100 else Floors().for_few()
    plan = FleetPlan(
        folder=Path(job["folder"]),
        floors=Floors(allow_seeded=True).for_few() if job["seeded"] else few,
        epsilon=1e5,
        seconds=job["seconds"],
        poll_seconds=job["poll"],
        histories={int(device): items for device, items in job["histories"].items()},
        slow=job["slow"],
        together=True,
        processes=job["processes"],
    )
    invitations = [Invitation.from_json(line) for line in job["invitations"]]
    sys.stdout.write("started\n")
    sys.stdout.flush()
    members = run_fleet(plan, invitations)
    sys.stdout.write(json.dumps([asdict(member) for member in members]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
