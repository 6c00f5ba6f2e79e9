"""Two at once: what two processes do to a ledger at the same moment comes out as one after the other.

Both sides' ledgers, and an app's own. Each call that decides something is made while another process makes one of the
same file: a call by a second handle comes before the first one's first transaction, before its second, and so on, and
at last after it. There are as many moments as there are transactions, found by watching. Whatever the moment, who was
refused and what is in the file must be as in one of the two orders.

    A: BEGIN look COMMIT | BEGIN write COMMIT       B at | -> as A, B or as B, A: an attempt once, no limit exceeded

**Assumes:** SQLite keeps transactions apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

from plans import kept_plan

from mechanism.checks.ledgers.books import before_transaction, beside, done
from mechanism.harness.probe_run import POPULATION
from mechanism.harness.watched_run import release_key
from palate_audit.evidence.evidence import Finding
from palate_client.device import open_device
from palate_client.ledger.anchor import known_charges
from palate_client.ledger.own_ledger import ONE, OwnLedger
from palate_client.rounds.contribution import OneDevice, Participations
from palate_client.service import Service
from palate_common.system import memory_folder
from palate_core.errors import PalateError
from palate_core.log.merkle import Checkpoint
from palate_server.ledger.ledger import Ledger
from palate_sim.engines.ledger.simulated_ledger import SimulatedLedger

ROOM = 1
"""Charges for which there is room."""
COST, HASH = 0.5, "ab" * 32
KEY = bytes(range(32))
PLACES: Mapping[str, dict[str, Any]] = {
    "an attempt": {"run": "one", "round_": 3, "attempt": 0},
    "an earlier one": {"run": "one", "round_": 2, "attempt": 5},
    "one of another run": {"run": "two", "round_": 0, "attempt": 0},
}

Call = Callable[[Any], object]
"""What is done with a handle."""
Opened = Callable[[], AbstractContextManager[tuple[Any, Any, Callable[[], object]]]]
"""Opens a new file by two handles, and says what is in it."""


def two_at_once() -> list[Finding]:
    """Both sides' ledgers, and an app's own."""
    charges: dict[str, Call] = {f"a charge of {name}": partial(_charge_device, place) for name, place in PLACES.items()}
    others: dict[str, Call] = {
        f"a state of {size} entries, {root}": partial(_see, Checkpoint(size, root * 32))
        for size, root in ((9, "aa"), (9, "bb"), (8, "cc"))
    }
    others |= {f"step {digest}": partial(_latch, digest * 32) for digest in ("aa", "bb")}
    own = dict(list(charges.items())[:1])
    spent: dict[str, Call] = {f"a charge of {name}": partial(_charge, place) for name, place in PLACES.items()}
    lives = {
        "devices', charges": partial(_serial, _devices, charges),
        "devices', what is seen and answered": partial(_serial, _devices, others),
        "an app's own": partial(_serial, _own, own),
        "the population's": partial(_serial, _population, spent),
    }
    return beside({f"two at once, {name}": live for name, live in lives.items()})


def _serial(opened: Opened, calls: Mapping[str, Call]) -> Iterator[str]:
    """Each two calls, one at each moment of the other."""
    for (name, one), (other, two) in product(calls.items(), repeat=2):
        for moment in count(1):
            found, came = _outcome(opened, one, two, moment)
            if not came:
                break
            orders = [_outcome(opened, one, two, each)[0] for each in (0, None)]
            if found not in orders:
                yield f"{name} and {other} at once come out as {found}, and one after the other as {orders}"
        yield ""


def _outcome(opened: Opened, one: Call, two: Call, moment: int | None) -> tuple[object, bool]:
    """What comes of two calls, the second before a transaction of the first, or after all; and whether it came so."""
    with opened() as (first, second, look):
        came: list[bool] = []
        with before_transaction(moment, lambda: came.append(done(partial(two, second)))):
            made = done(partial(one, first))
        between = bool(came)
        if not came:
            came.append(done(partial(two, second)))
        return (made, came[0], look()), between


def _charge_device(place: dict[str, Any], ledger: Participations) -> None:
    """Charge a device; who may not take part is refused."""
    kept = kept_plan(**place, mu2=COST)
    if ledger.join(kept, n_bytes=1, purpose="train", devices=[ONE])[0] is None:
        raise PalateError("the device must be below its limits")


def _see(state: Checkpoint, ledger: Participations) -> None:
    """A state whose proof was checked before either of the two was kept."""
    ledger.see(POPULATION, state, state.root.encode(), after=None)


def _latch(digest: str, ledger: Participations) -> None:
    ledger.latch("input", digest, device=ONE, **PLACES["an attempt"])


def _charge(place: dict[str, Any], ledger: Ledger) -> None:
    ledger.charge(**place, plan_hash=HASH, mu2=COST, facts={}, run_limit=None)


def _told(ledger: SimulatedLedger | OwnLedger) -> object:
    """All that a device's ledger says, without times."""
    found = ledger.receipts() if isinstance(ledger, OwnLedger) else ledger.receipts(ONE)
    receipts = [(each.run, each.round, each.attempt) for each in found]
    return receipts, ledger.seen_checkpoint(POPULATION), ledger.seen_payload(POPULATION)


@contextmanager
def _devices() -> Iterator[tuple[SimulatedLedger, SimulatedLedger, Callable[[], object]]]:
    """A device's ledger, with room for one charge."""
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder, ExitStack() as stack:
        one, two = (
            stack.enter_context(SimulatedLedger(Path(folder) / "devices.db", limit_mu2=ROOM * COST, durable=False))
            for _ in range(2)
        )
        yield one, two, lambda: _told(two)


@contextmanager
def _own() -> Iterator[tuple[OneDevice, OneDevice, Callable[[], object]]]:
    """An app's own, with the store that knows of how many charges it has."""
    service = Service(public_key=release_key().public, population=POPULATION)
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder, ExitStack() as stack:
        stores = [stack.enter_context(open_device(Path(folder) / "app", app="audit", key=KEY)).store for _ in range(2)]
        one, two = (stack.enter_context(OwnLedger(store, service)) for store in stores)
        yield OneDevice(one), OneDevice(two), lambda: (_told(two), known_charges(stores[0]))


@contextmanager
def _population() -> Iterator[tuple[Ledger, Ledger, Callable[[], object]]]:
    """A population's ledger, with room for one charge."""
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="palate-") as folder, ExitStack() as stack:
        one, two = (
            stack.enter_context(Ledger(Path(folder) / "population.ledger.db", population=POPULATION)) for _ in range(2)
        )
        one.set_budget(mu2=ROOM * COST, epsilon=5.0, delta=1e-5)
        for run in ("one", "two"):
            one.open_run(run, {})
        yield one, two, lambda: [entry.body for entry in two.entries()]
