"""Some nodes of several people each, in a process that may be killed, and started again with the same job.

python nodes.py JOB.json

It says the devices' numbers when all are enrolled, waits for a line, has everybody take part again and again until its
input ends, and says how it ended the last time.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import palate
from palate_client.online import sync
from palate_client.starter import Starter
from palate_common.enrolment import Invitation
from palate_common.system import open_many
from palate_node.people import HostedPeople, HostedPerson
from palate_node.work import take_part

EPSILON, AT_ONCE = 1e5, 4
"""Of each person; devices of a process that compute an answer at a time."""


def node(home: Path, invitations: list[str], job: dict[str, Any], starter: Starter) -> HostedPeople:
    """A node whose people have agreed, are enrolled, and have the history of their device's number."""
    invited = [Invitation.from_json(each) for each in invitations]
    service = palate.Service(
        public_key=invited[0].public_key, population=invited[0].population, epsilon=EPSILON,
        floors=palate.Floors(allow_seeded=True).for_few(),
    )  # fmt: skip
    people = HostedPeople(home, starter)
    for number, each in enumerate(invited[len(list(people)) :]):
        people.add(f"person-{number}")
        people.invite(f"person-{number}", each, epsilon=EPSILON)
    for name in [person.name for person in people]:  # whose devices take a test's noise
        person = people._people[name] = HostedPerson(name, home, starter, service)
        for purpose in ("store", "train"):
            person.device.consent.grant(purpose, version="node")
        if person.device.enrolment is None and person.settings.invitation is not None:
            person.device.enroll(person.settings.invitation)
        enrolled = person.device.enrolment
        if enrolled is not None and not any(True for _ in person.device.store.events()):
            items = job["histories"][str(enrolled.device)]
            person.device.track_many([palate.Event("like", item) for item in items])
    return people


def main(file: Path) -> None:
    job, starter = json.loads(file.read_text()), palate.starter("films")
    open_many()
    os.nice(5)  # the server must answer, whatever so many homes do on its machine
    sync.turns = BoundedSemaphore(AT_ONCE)  # ten homes have ten processors
    with ExitStack() as stack:
        made = [(file.parent / name, lines) for name, lines in job["nodes"].items()]
        nodes = [stack.enter_context(node(home, lines, job, starter)) for home, lines in made]
        devices = [each.device.enrolment for people in nodes for each in people]
        sys.stdout.write(json.dumps([each.device for each in devices if each is not None]) + "\n")
        sys.stdout.flush()
        over = threading.Event()

        def again(people: HostedPeople) -> dict[str, str]:
            ended = dict[str, str]()
            while not over.wait(2.0):
                ended = take_part(people, stop=over)
            return ended

        with ThreadPoolExecutor(len(nodes)) as threads:
            sys.stdin.readline()
            running = [threads.submit(again, people) for people in nodes]
            sys.stdin.read()
            over.set()
            found = [each.result() for each in running]
        sys.stdout.write(json.dumps(Counter(how for ended in found for how in ended.values())) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
