"""Run: opens a run's coordinator, and runs a round from plan to model in one function.

    server: price -> charge -> sign plan                                  Coordinator.open_attempt
    device: verify -> charge -> train -> clip -> noise -> encode or mask  Transport.exchange
    server: check -> sum -> noise -> persist -> seal -> next model        Coordinator.close_attempt, close_masked

All engines and deployments use these functions. They differ in the `Transport` that carries the bytes.

    with open_run(terms, folder, ledger=ledger, key=key) as coordinator:
        run_rounds(coordinator, transport, on_release=print)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.directory import Directory
from palate_server.ledger.ledger import Ledger
from palate_server.rounds.coordinator import Coordinator, Release
from palate_server.rounds.lock import RunLock
from palate_server.rounds.registry import Registry
from palate_server.rounds.shelf import ModelShelf
from palate_server.rounds.terms import RunTerms
from palate_server.secagg.subcohorts import Subcohorts

if TYPE_CHECKING:
    from palate_server.ledger.witnesses import Witnesses  # loads an HTTP client


@contextmanager
def open_run(
    terms: RunTerms,
    folder: Path,
    *,
    ledger: Ledger | Path | str,
    key: SigningKey,
    clock: Callable[[], float] = time.time,
    on_charge: Callable[[bytes], None] | None = None,
    witnesses: Witnesses | None = None,
) -> Iterator[Coordinator]:
    """Open or resume a run; its folder is locked while the context lasts.

    Args:
        terms: the run's terms.
        folder: the existing run folder.
        ledger: the population's ledger; a path is opened, and closed with the run.
        key: the release key.
        clock: returns the time in seconds since 1970.
        on_charge: see `Coordinator`.
        witnesses: see `Coordinator`.

    Raises:
        LockedError: another process owns the run folder.
        InputError, IntegrityError: as `Coordinator` and `Ledger`.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(RunLock(folder))
        if not isinstance(ledger, Ledger):
            ledger = stack.enter_context(Ledger(ledger, population=terms.population, unit=terms.unit))
        registry = Registry(folder)
        yield Coordinator(
            terms,
            ledger=ledger,
            registry=registry,
            key=key,
            lock=lock,
            clock=clock,
            on_charge=on_charge,
            witnesses=witnesses,
        )


@dataclass(frozen=True)
class Request:
    """One exchange of an attempt.

    Attributes:
        to: the recipients.
        shared: values for all, in the first exchange: the signed `plan`, with masks the `directory` if all are in one
            cohort, and the `model` unless devices fetch it.
        own: with masks, makes the values for one device, when they are sent: the `request`, in the first exchange with
            sub-cohorts the `directory` of its own; None without masks.
        step: with masks, the number of the step.
        attempt: with masks, what takes sums of vectors where a transport has them in the place of answers.
    """

    to: Collection[int]
    shared: Mapping[str, bytes]
    own: Callable[[int], Mapping[str, bytes]] | None = None
    step: int = 0
    attempt: Subcohorts | None = None


class Transport(Protocol):
    """Carries the messages of attempts: a Flower grid, or a loop over the nodes of this process."""

    def invite(self, *, masked: bool) -> Collection[int]:
        """Recipients for the next attempt: nodes, or, with masks, devices by their numbers."""

    def exchange(self, request: Request) -> Iterable[tuple[int, bytes]]:
        """Send a request, and yield (sender, answer) as answers come, only of its recipients."""


DirectoryOf = Callable[[Collection[int]], Directory]
"""The directory of the devices that are invited to an attempt; without those that nobody knows."""


def run_round(
    coordinator: Coordinator,
    transport: Transport,
    *,
    directory_of: DirectoryOf | None = None,
    shelf: ModelShelf | None = None,
) -> Release:
    """Run one attempt at the coordinator's next round, from the plan to the model.

    Args:
        coordinator: the server's side of the run.
        transport: carries the messages.
        directory_of: see `DirectoryOf`, for a run with masks.
        shelf: where devices fetch the model by its hash; None: it goes with the plan, as in one machine's memory.

    Returns:
        The public result of the attempt.

    Raises:
        BudgetError: the budget doesn't allow it; nothing is charged.
        InputError: no node is online, or nobody knows the devices of a run with masks; nothing is charged.
        IntegrityError: there are too few or too many devices, and nothing is charged; or too few answers, or a
            secret that can't be opened: nothing is released, and the attempt stays charged.
        LockedError: this process no longer owns the run.
        OSError: the model can't be put on the shelf; nothing is charged.
    """
    terms = coordinator.terms
    masked = terms.cohort is not None and terms.cohort.masks
    if masked and directory_of is None:
        raise InputError("`directory_of` must be given for a run with masks: nothing is charged")
    invited = transport.invite(masked=masked)
    if not masked or directory_of is None:
        if not invited:
            raise InputError("at least one node must be online, got none: nothing is charged")
        asked = _opened(coordinator, shelf)
        return coordinator.close_attempt(first_answers(transport.exchange(Request(invited, asked))))
    asked = _opened(coordinator, shelf, _directory(terms, directory_of(invited)))
    attempt = coordinator.unmasking()
    while not attempt.finished:
        for device, answer in transport.exchange(masked_request(attempt, asked)):
            attempt.receive(device, answer)
        attempt.close()
        asked = {}
    return coordinator.close_masked(attempt)


def masked_request(attempt: Subcohorts, opened: Mapping[str, bytes]) -> Request:
    """The next exchange of a masked attempt.

    Args:
        attempt: the attempt.
        opened: in the first exchange the plan, and the model unless devices fetch it; empty in each later one.
    """
    together, asked = len(attempt.machines) == 1, attempt.asked
    shared = {**opened, "directory": attempt.directory(asked[0])} if opened and together else opened

    def own(device: int) -> dict[str, bytes]:
        found = {"request": attempt.request(device)}
        return {**found, "directory": attempt.directory(device)} if opened and not together else found

    return Request(asked, shared, own, int(attempt.step), attempt)


def run_rounds(
    coordinator: Coordinator,
    transport: Transport,
    *,
    directory_of: DirectoryOf | None = None,
    shelf: ModelShelf | None = None,
    on_release: Callable[[Release], None] | None = None,
    most: int | None = None,
) -> None:
    """Run all rounds that are left of a run, or the next `most` attempts.

    Args:
        coordinator: the server's side of the run.
        transport: carries the messages.
        directory_of: see `DirectoryOf`, for a run with masks.
        shelf: see `run_round`.
        on_release: called with each release, after it is sealed.
        most: the most attempts; None: until the coordinator is finished, which depends on released values only.

    Raises:
        IntegrityError: there are too few contributions. To pay for another attempt, call this again.
        BudgetError, InputError, LockedError, OSError: as `run_round`.
    """
    attempts = 0
    while not coordinator.finished and attempts != most:
        attempts += 1
        release = run_round(coordinator, transport, directory_of=directory_of, shelf=shelf)
        if on_release is not None:
            on_release(release)


def first_answers(answers: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Each node's first answer, as it comes; later ones are ignored."""
    found = set[int]()
    for node, answer in answers:
        if node not in found:
            found.add(node)
            yield node, answer


def _opened(coordinator: Coordinator, shelf: ModelShelf | None, directory: Directory | None = None) -> dict[str, bytes]:
    """Open an attempt whose model is where devices find it; returns what each of them is sent."""
    model = coordinator.model.data
    if shelf is not None:
        shelf.put(model)
    asked = {"plan": coordinator.open_attempt(directory)}
    if shelf is None:
        asked["model"] = model
    return asked


def _directory(terms: RunTerms, directory: Directory) -> Directory:
    """The devices of a masked attempt, as many as the terms allow."""
    cohort, found = terms.cohort, len(directory)
    if cohort is None or not terms.least <= found <= cohort.n_max * cohort.subcohorts:
        bounds = "a cohort of" if cohort is None else f"{terms.least} to {cohort.n_max * cohort.subcohorts}"
        raise IntegrityError(f"a masked attempt needs {bounds} devices, got {found}: nothing is charged")
    return directory
