"""Device fleet: many real devices in few processes, each with its own store, keys and sockets, for load tests.

    python docs/examples/device_fleet.py 20 --tokens invitations --seconds 150

    invitations -> (open, consent, enrol, model, events, sync) x N, a thread each -> Members

They are `palate.Device`s like an app's, at a real server. Few of a process compute at a time, so that a thousand fit.
A load test adds devices that disconnect in the middle of a round, and slow devices.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, BoundedSemaphore, BrokenBarrierError

from palate_client.device import Device, open_device
from palate_client.events import Event
from palate_client.online import downloads, sync
from palate_client.online.https import Https
from palate_client.online.policy import Policy
from palate_client.online.retry import SyncEnd
from palate_client.online.sync import SyncResult
from palate_client.service import Service
from palate_client.store.journal import Journal
from palate_client.store.vault import new_key
from palate_common.enrolment import Invitation
from palate_common.records.files import create_durably
from palate_common.system import open_many
from palate_core.device.floors import Floors
from palate_core.errors import InputError, PalateError, UnreachableError

APP = "fleet"
AT_ONCE = 8
"""The number of devices of a process that are prepared, or compute an answer, at a time; the others wait for a turn."""
_ENROL_TRIES, _ENROL_PAUSE = 8, 1.0


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """What the devices of a fleet do.

    Attributes:
        folder: where the stores are; those of an earlier fleet are used again.
        floors: what the devices require of a run.
        epsilon: each device's lifetime budget.
        seconds: the longest that each is online.
        poll_seconds: the shortest time between two polls for messages.
        events: how many items of the catalogue each device has liked, drawn from `seed`.
        histories: device number -> items, in the place of drawn ones.
        spread: seconds over which the devices start.
        together: whether each device waits until all of its process are ready.
        processes: how many processes share the devices.
        vanish: share of the devices that disconnect in the middle of a round.
        slow: delay of every step of a device, in seconds.
        seed: seed of the random draws.
    """

    folder: Path
    floors: Floors = field(default_factory=Floors)
    epsilon: float = 8.0
    seconds: float = 600.0
    poll_seconds: float = 2.0
    events: int = 10
    histories: Mapping[int, Sequence[str]] | None = None
    spread: float = 0.0
    together: bool = False
    processes: int = 1
    vanish: float = 0.0
    slow: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Member:
    """The result of one device.

    Attributes:
        result: of its sync; None: it didn't get that far.
        error: the reason, if it failed.
        prepare_seconds: for its store, its enrolment and its model.
        vanished: whether it was planned to vanish.
    """

    result: SyncResult | None
    error: str
    prepare_seconds: float
    vanished: bool


def run_fleet(plan: FleetPlan, invitations: Sequence[Invitation]) -> list[Member]:
    """Run a device for each invitation, and wait until all are done.

    Raises:
        InputError: there is no invitation, or the folder can't be used.
    """
    if not invitations:
        raise InputError("a fleet must have at least one invitation, got none")
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        key = plan.folder / "key"
        if not key.exists():
            create_durably(key, new_key(), mode=0o600)
        secret = key.read_bytes()
    except OSError as error:
        raise InputError(f"`folder` must be a folder that can be written, got {plan.folder}: {error}") from None
    numbered = list(enumerate(invitations))
    if plan.processes == 1:
        return [member for _, member in _shard(plan, numbered, secret)]
    shares = [numbered[place :: plan.processes] for place in range(min(plan.processes, len(numbered)))]
    with ProcessPoolExecutor(len(shares), mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(_shard, plan, share, secret) for share in shares]
        found = dict(pair for part in parts for pair in part.result())
    return [found[number] for number, _ in numbered]


def _shard(plan: FleetPlan, numbered: Sequence[tuple[int, Invitation]], secret: bytes) -> list[tuple[int, Member]]:
    """Run some of the devices, in this process; their numbers and results."""
    open_many()  # a device has some ten files and sockets
    turns, ready = BoundedSemaphore(AT_ONCE), Barrier(len(numbered) if plan.together else 1)
    before, sync.turns = sync.turns, turns
    try:
        return _run_all(plan, numbered, secret, turns, ready)
    finally:
        sync.turns = before


def _run_all(
    plan: FleetPlan,
    numbered: Sequence[tuple[int, Invitation]],
    secret: bytes,
    turns: BoundedSemaphore,
    ready: Barrier,
) -> list[tuple[int, Member]]:
    """A thread for each device."""
    with ThreadPoolExecutor(len(numbered), thread_name_prefix="device") as threads:
        runs = [
            (number, threads.submit(_member, plan, number, each, secret, turns, ready)) for number, each in numbered
        ]
        return [(number, run.result()) for number, run in runs]


def _member(
    plan: FleetPlan, number: int, invitation: Invitation, key: bytes, turns: BoundedSemaphore, ready: Barrier
) -> Member:
    """One device, from its store to the end of its sync."""
    rng = random.Random(plan.seed * 1_000_003 + number)  # noqa: S311 # a test's events and accidents
    vanishes = rng.random() < plan.vanish
    begun = time.monotonic()
    service = Service(
        public_key=invitation.public_key, population=invitation.population, epsilon=plan.epsilon, floors=plan.floors
    )
    try:
        with ExitStack() as open_:
            try:
                with turns:
                    begun = time.monotonic()
                    folder = plan.folder / f"device-{number}"
                    device = open_.enter_context(open_device(folder, app=APP, key=key, service=service))
                    _prepare(device, plan, invitation, rng)
            except BaseException:
                ready.abort()  # the others must not wait
                raise
            prepared = time.monotonic() - begun
            with suppress(BrokenBarrierError):
                ready.wait()
            time.sleep(rng.uniform(0.0, plan.spread) if plan.spread else 0.0)
            policy = _policy(device, plan, after=rng.randint(1, 5) if vanishes else None)
            result = device.sync(seconds=plan.seconds, poll_seconds=plan.poll_seconds, policy=policy)
        return Member(result, "", prepared, vanishes)
    except (PalateError, OSError) as error:
        return Member(None, " ".join(str(error).split()), time.monotonic() - begun, vanishes)


def _prepare(device: Device, plan: FleetPlan, invitation: Invitation, rng: random.Random) -> None:
    """Give consent, enrol, fetch a model and record events, as far as an earlier fleet hasn't."""
    device.consent.grant("store")
    device.consent.grant("train")
    if device.enrolment is None:
        _with_retries(lambda: device.enroll(invitation), rng)
    if device.model() is None:  # the sync fetches newer models
        _with_retries(lambda: fetch_model(device), rng)
    if any(True for _ in device.store.events()):
        return
    enrolled, model = device.enrolment, device.model()
    if plan.histories is not None and enrolled is not None:
        items = list(plan.histories.get(enrolled.device, ()))
    else:
        items = [] if model is None else rng.sample(model.items, min(plan.events, len(model.items)))
    device.track_many([Event("like", item) for item in items])


def fetch_model(device: Device, *, seconds: float = 120.0) -> bool:
    """Download and install the server's newest model, outside of a sync; return whether there was a newer one.

    Raises:
        UnreachableError: the model can't be downloaded.
    """
    enrolment, service = device.enrolment, device.service
    if enrolment is None or service is None:
        return False
    with Https(enrolment.address, until=time.monotonic() + seconds) as https:
        manifest = downloads.latest(https)
        if manifest is None:
            return False
        key, most = service.public_key, service.most_bytes
        found = downloads.model(https, manifest, public_key=key, most=most, again=lambda call: call(), have={})
    if isinstance(found, SyncEnd):
        raise UnreachableError(f"the newest model must come in {seconds:g} seconds, got none: {found.ended}")
    with device.models.noting_refusals():
        return device.models.take(found)


def _with_retries(call: Callable[[], object], rng: random.Random) -> None:
    """Retry a call: hundreds of devices at once exceed a server's limits."""
    for tried in range(_ENROL_TRIES):
        try:
            call()
            return
        except UnreachableError:
            if tried == _ENROL_TRIES - 1:
                raise
            time.sleep(_ENROL_PAUSE * 2**tried * rng.uniform(0.5, 1.0))


def _policy(device: Device, plan: FleetPlan, *, after: int | None) -> Policy:
    """Slow devices sleep at each request for the policy; a device that vanishes stops at its message `after`."""

    def stays() -> bool:
        """Whether the device has sent fewer messages."""
        with Journal(device.store.file) as journal:
            return len(journal.sent()) < (after or 0)

    def late() -> bool:
        """Sleep for the configured delay."""
        time.sleep(plan.slow)
        return True

    return Policy(unmetered=None if after is None else stays, idle=late if plan.slow else None)


def summary(members: Sequence[Member]) -> list[tuple[str, str]]:
    """The results of a fleet, as lines of a table."""
    results = [member.result for member in members if member.result is not None]
    ended = Counter(result.ended for result in results)
    failed = Counter(member.error for member in members if member.error)
    rows = [
        ("devices", f"{len(members)}"),
        ("took part", f"{sum(result.rounds > 0 for result in results)}"),
        ("contributions", f"{sum(result.rounds for result in results)}"),
        ("left before the end", f"{sum(result.dropped for result in results)}"),
        ("refused messages", f"{sum(result.refused for result in results)}"),
        ("vanished on purpose", f"{sum(member.vanished for member in members)}"),
        ("failed before they were online", f"{sum(failed.values())}"),
        *((f"  {reason[:90]}", f"{count}") for reason, count in failed.most_common(3)),
        *((f"ended: {how}", f"{count}") for how, count in sorted(ended.items())),
        ("seconds to be ready", _spread([member.prepare_seconds for member in members])),
    ]
    if results:
        rows += [
            ("seconds online", _spread([result.seconds for result in results])),
            ("exchanges a device", _spread([float(result.exchanges) for result in results])),
            ("requests a device", _spread([float(result.requests) for result in results])),
            ("bytes out a device", _spread([float(result.sent) for result in results])),
            ("bytes in a device", _spread([float(result.received) for result in results])),
        ]
    return rows


def _spread(values: Sequence[float]) -> str:
    """Median, 95th percentile and largest."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95)]
    return f"median {at[0]:,.4g}, 95 % {at[1]:,.4g}, most {ordered[-1]:,.4g}"


def main() -> int:
    """Run the devices of the command line, and print their results."""
    parser = argparse.ArgumentParser(description="Run N real devices, each with its own store, keys and sockets.")
    parser.add_argument("devices", metavar="N", type=int, help="how many devices")
    parser.add_argument("--tokens", type=Path, required=True, help="invitations, one a line, at least N")
    parser.add_argument("--seconds", type=float, default=600.0, help="longest time that a device is online")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the devices")
    asked = parser.parse_args()
    lines = [line for line in asked.tokens.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not 1 <= asked.devices <= len(lines):
        parser.error(f"N must be 1 to the {len(lines)} invitations of {asked.tokens}, got {asked.devices}")
    invitations = [Invitation.from_json(line) for line in lines[: asked.devices]]
    with tempfile.TemporaryDirectory(prefix="palate-fleet-") as folder:
        few = Floors().for_few()  # so that a cohort of any size will do
        plan = FleetPlan(folder=Path(folder), floors=few, seconds=asked.seconds, processes=asked.processes)
        members = run_fleet(plan, invitations)
    rows = summary(members)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0 if any(member.result is not None for member in members) else 1


if __name__ == "__main__":
    sys.exit(main())
