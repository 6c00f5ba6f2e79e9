"""Exchanges: one masked attempt over a Flower grid, from the signed plan to the sealed release.

    open_attempt -> (request to each device -> its answer) x 5 or 6 -> the sum is opened -> close_masked

One bytes record a message. The first exchange carries the plan and the model beside its request. Answers are taken as
they come, so that no more than one masked vector is in memory where the grid delivers one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from palate_common.errors import InputError, IntegrityError
from palate_common.secagg.directory import Directory
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.secagg.attempt import Unmasking

RECORD = "palate"
"""Name of the one record a message carries."""
FIRST, NEXT = MessageType.TRAIN, "train.masked"
"""Message types: the plan with its first request, and every later request."""


def roll_call(grid: Grid, *, ttl: float, timeout: float) -> dict[int, int]:
    """The node of each device that answers. Who claims a device that isn't its own gets nowhere: devices sign."""
    asked = RecordDict({RECORD: ConfigRecord({"who": True})})
    queries = (Message(asked, node, MessageType.QUERY, ttl=ttl) for node in grid.get_node_ids())
    found: dict[int, int] = {}
    for reply in grid.send_and_receive(queries, timeout=timeout):
        device = None if reply.has_error() else _value(reply, "device")
        if isinstance(device, int) and not isinstance(device, bool):
            found.setdefault(device, reply.metadata.src_node_id)
    return found


def run_masked(
    coordinator: Coordinator, directory: Directory, grid: Grid, *, nodes: Mapping[int, int], ttl: float, timeout: float
) -> Release:
    """One masked attempt at the coordinator's next round.

    Args:
        coordinator: the server's side of the run.
        directory: the identities that its terms name.
        grid: who carries the messages.
        nodes: the node of each device that is asked.
        ttl: seconds that a message may be answered.
        timeout: seconds that an exchange is waited for.

    Raises:
        BudgetError: the budget doesn't allow it; nothing is charged.
        InputError: a run without masks; nothing is charged.
        IntegrityError: too few devices or too many, which costs nothing. Or too few at a step, or a secret that can't
            be opened: nothing is released, and it stays charged.
        LockedError: this process no longer owns the run.
    """
    known = {device: node for device, node in nodes.items() if 0 <= device < len(directory.identities)}
    cohort = coordinator.terms.cohort
    if cohort is None or not cohort.masks:
        raise InputError("a masked attempt needs a run with masks: nothing is charged")
    if not cohort.n_min <= len(known) <= cohort.n_max:
        raise IntegrityError(
            f"a masked attempt needs {cohort.n_min} to {cohort.n_max} devices, got {len(known)}: nothing is charged"
        )
    extra = {"plan": coordinator.open_attempt(), "model": coordinator.model.data}
    attempt = coordinator.unmasking(directory, invited=known)
    devices = {node: device for device, node in known.items()}
    kind = FIRST
    while not attempt.finished:
        messages = _messages(attempt, known, kind, extra, ttl)
        for reply in grid.send_and_receive(messages, timeout=timeout):
            device = devices.get(reply.metadata.src_node_id)
            if device is not None and not reply.has_error():
                answer = _value(reply, "answer")
                attempt.receive(device, answer if isinstance(answer, bytes) else b"")  # which fails every check
        attempt.close()
        kind, extra = NEXT, {}
    return coordinator.close_masked(attempt)


def _messages(
    attempt: Unmasking, nodes: Mapping[int, int], kind: str, extra: Mapping[str, bytes], ttl: float
) -> Iterator[Message]:
    """A message to each device that is asked at this step, made when it is sent."""
    for device in attempt.asked:
        record = ConfigRecord({**extra, "request": attempt.request(device)})
        group = str(int(attempt.step))
        yield Message(RecordDict({RECORD: record}), nodes[device], kind, ttl=ttl, group_id=group)


def _value(reply: Message, name: str) -> object:
    """One value of the one record of a reply."""
    record = reply.content.get(RECORD)
    return record.get(name) if isinstance(record, ConfigRecord) else None
