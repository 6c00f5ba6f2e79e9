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
        shared: values for all, in the first exchange: the signed `plan`, and the `model` unless devices fetch it.
        own: with masks, makes the bytes for one device, when they are sent; None without masks.
        step: with masks, the number of the step.
    """

    to: Collection[int]
    shared: Mapping[str, bytes]
    own: Callable[[int], bytes] | None = None
    step: int = 0


class Transport(Protocol):
    """Carries the messages of attempts: a Flower grid, or a loop over the nodes of this process."""

    def invite(self, *, masked: bool) -> Collection[int]:
        """Recipients for the next attempt: nodes, or, with masks, devices by their position in the directory."""

    def exchange(self, request: Request) -> Iterable[tuple[int, bytes]]:
        """Send a request, and yield (sender, answer) as answers come, only of its recipients."""


def run_round(
    coordinator: Coordinator,
    transport: Transport,
    *,
    directory: Directory | None = None,
    shelf: ModelShelf | None = None,
) -> Release:
    """Run one attempt at the coordinator's next round, from the plan to the model.

    Args:
        coordinator: the server's side of the run.
        transport: carries the messages.
        directory: the devices' identities, for a run with masks.
        shelf: where devices fetch the model by its hash; None: it goes with the plan, as in one machine's memory.

    Returns:
        The public result of the attempt.

    Raises:
        BudgetError: the budget doesn't allow it; nothing is charged.
        InputError: no node is online, or the directory isn't the run's; nothing is charged.
        IntegrityError: there are too few or too many devices, and nothing is charged; or too few answers, or a
            secret that can't be opened: nothing is released, and the attempt stays charged.
        LockedError: this process no longer owns the run.
        OSError: the model can't be put on the shelf; nothing is charged.
    """
    _check_directory(coordinator.terms, directory)
    invited = transport.invite(masked=directory is not None)
    if directory is None:
        if not invited:
            raise InputError("at least one node must be online, got none: nothing is charged")
        asked = _opened(coordinator, shelf)
        return coordinator.close_attempt(first_answers(transport.exchange(Request(invited, asked))))
    devices = _cohort(coordinator.terms, directory, invited)
    asked = _opened(coordinator, shelf)
    attempt = coordinator.unmasking(directory, invited=devices)
    while not attempt.finished:
        for device, answer in transport.exchange(Request(attempt.asked, asked, attempt.request, int(attempt.step))):
            attempt.receive(device, answer)
        attempt.close()
        asked = {}
    return coordinator.close_masked(attempt)


def run_rounds(
    coordinator: Coordinator,
    transport: Transport,
    *,
    directory: Directory | None = None,
    shelf: ModelShelf | None = None,
    on_release: Callable[[Release], None] | None = None,
    most: int | None = None,
) -> None:
    """Run all rounds that are left of a run, or the next `most` attempts.

    Args:
        coordinator: the server's side of the run.
        transport: carries the messages.
        directory: the devices' identities, for a run with masks.
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
        release = run_round(coordinator, transport, directory=directory, shelf=shelf)
        if on_release is not None:
            on_release(release)


def first_answers(answers: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Each node's first answer, as it comes; later ones are ignored."""
    found = set[int]()
    for node, answer in answers:
        if node not in found:
            found.add(node)
            yield node, answer


def _opened(coordinator: Coordinator, shelf: ModelShelf | None) -> dict[str, bytes]:
    """Open an attempt whose model is where devices find it; returns what each of them is sent."""
    model = coordinator.model.data
    if shelf is None:
        return {"plan": coordinator.open_attempt(), "model": model}
    shelf.put(model)
    return {"plan": coordinator.open_attempt()}


def _check_directory(terms: RunTerms, directory: Directory | None) -> None:
    """Check that a directory is given exactly for a run with masks, and is the run's."""
    masks = terms.cohort is not None and terms.cohort.masks
    if masks != (directory is not None):
        raise InputError("`directory` must be given for a run with masks, and only then: nothing is charged")
    if terms.cohort is not None and directory is not None and directory.hash != terms.cohort.directory:
        raise InputError("`directory` must be the one that the run was started with, got another: nothing is charged")


def _cohort(terms: RunTerms, directory: Directory, invited: Collection[int]) -> list[int]:
    """The devices of a masked attempt, as many as the terms allow."""
    devices = [device for device in invited if 0 <= device < len(directory.identities)]
    cohort = terms.cohort
    if cohort is None or not terms.least <= len(devices) <= cohort.n_max * cohort.subcohorts:
        bounds = "a cohort of" if cohort is None else f"{terms.least} to {cohort.n_max * cohort.subcohorts}"
        raise IntegrityError(f"a masked attempt needs {bounds} devices, got {len(devices)}: nothing is charged")
    return devices
