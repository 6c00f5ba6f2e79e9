"""S, guards: every rule of a device in a masked attempt has refused a request that breaks it, and nothing else.

A server that lies from the first step on asks copies of one real device. Each request is the honest one with one thing
wrong, and as right as it can be in all that depends on it: a list of another cohort has its own root, its members have
signed that, and a colluder signs the keys that it has copied. At every step there is a request of another toss.

Which rules there are is read from `palate_client.secagg.checks`, so that nobody lists them: each function there that
gives nothing back is a guard. Through all tests of masks it is noted which of them refuse. One that never does is
missing, or nothing here breaks its rule.

**Assumes:** a rule of a device stands in that module.
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from itertools import combinations, product
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.secagg.adversary import Adversary
from palate_audit.secagg.attacks import ring, small_rings
from palate_audit.secagg.cohort import MaskedCohort
from palate_client.secagg import checks
from palate_client.secagg.attempt import MaskedDevice
from palate_common.errors import PalateError
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.messages import (
    HEADER,
    SIGNATURE,
    Advert,
    Header,
    ShareRequest,
    Step,
    UnmaskRequest,
    encode_commitments,
    pack_flags,
    read,
    write,
)
from palate_common.secagg.transcript import (
    ADVERT,
    CONSISTENCY,
    advert_payload,
    cohort_root,
    commitment_to,
    consistency_payload,
    sign,
)

VICTIM = 0
STRETCH, CUT = 4, 3
"""So many of so many neighbours in a row cut a ring with 8 neighbours each, of which one may be corrupt."""
Entry = tuple[int, bytes, bytes]
"""A member, its commitment and its nonce."""


def guards() -> tuple[str, ...]:
    """The rules of a device: all functions of the module, as it is written, that give nothing back."""
    written = ast.parse(inspect.getsource(checks)).body
    own = [each for each in written if isinstance(each, ast.FunctionDef)]
    return tuple(each.name for each in own if isinstance(each.returns, ast.Constant) and each.returns.value is None)


@contextmanager
def refusing() -> Iterator[set[str]]:
    """Note which rules refuse, while the context is open."""
    refused = set[str]()

    def noted(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(rule)
        def call(*given: Any, **named: Any) -> Any:
            try:
                return rule(*given, **named)
            except PalateError:
                refused.add(name)
                raise

        return call

    with ExitStack() as stack:
        for name in guards():
            stack.enter_context(mock.patch.object(checks, name, noted(name, getattr(checks, name))))
        yield refused


def unmet(refused: set[str]) -> Iterator[str]:
    """Rules that have refused nothing."""
    for name in sorted({*guards()} - refused):
        yield f"the rule `{name}` of a device has refused nothing that breaks it"


def requests() -> Iterator[str]:
    """Requests with one thing wrong, from the first step to the last."""
    with small_rings():
        yield from _cohorts()
        yield from _tosses(ring())
        yield from _gaps()
    yield from _opening()


def _answers(machine: MaskedDevice, step: Step, toss: int, body: bytes) -> bool:
    """Whether a copy of a device answers a request."""
    asked = write(Header(step, toss, machine.id, machine.terms.context), body, answer=False)
    try:
        copy.copy(machine).answer(step, asked)
    except PalateError:
        return False
    except (LookupError, ValueError, TypeError):  # a message for nobody: nothing is said
        return False
    return True


class _Committed:
    """A cohort whose members have committed to nonces, and a server that may show them any list."""

    def __init__(self) -> None:
        self.world = ring()
        server = self.world.begin()
        self.world.exchange(server, {})
        self.machines = [copy.copy(each) for each in self.world.devices]
        self.context = self.world.terms.context
        states: list[Any] = [each._state for each in self.machines]
        self.entries: list[Entry] = [(at, each.commitment, each.nonce) for at, each in enumerate(states)]

    def root(self, entries: Sequence[Entry]) -> bytes:
        """The root of a list."""
        return cohort_root(self.context, 0, encode_commitments([(each, found) for each, found, _ in entries]))

    def advertised(self, root: bytes) -> dict[int, tuple[MaskedDevice, Advert]]:
        """Each device when it has signed a root, and its advert."""
        found = {}
        for device, machine in enumerate(self.machines):
            asked, own = write(Header(Step.ADVERTISE, 0, device, self.context), root, answer=False), copy.copy(machine)
            body = read(
                own.answer(Step.ADVERTISE, asked), step=Step.ADVERTISE, device=device, context=self.context, answer=True
            )[1]
            found[device] = own, Advert.decode(bytes(body), committed=True)
        return found

    def neighbours(self, entries: Sequence[Entry]) -> list[int]:
        """Whom a list gives the victim as neighbours; anybody where it gives none."""
        try:
            ids, nonces = [each for each, _, _ in entries], [nonce for _, _, nonce in entries]
            cohort = Cohort(self.world.terms, toss=0, ids=ids, root=self.root(entries), nonces=nonces)
            me = cohort.member(VICTIM)
            return [int(each) for each in cohort.ids[cohort.neighbours(0 if me is None else me)]]
        except (PalateError, LookupError, ValueError):
            return [each for each, _, _ in self.entries[1:9]]


def _cohorts() -> Iterator[str]:
    """Lists and adverts that a device must not share its secrets with."""
    made = _Committed()
    honest, strange = made.entries, (commitment_to(bytes(32)), bytes(32))
    few, last = made.world.terms.n_min - 1, len(honest)
    lists: dict[str, list[Entry]] = {
        "": honest,
        "has fewer members than may be": honest[:few],
        "names a member twice": [*honest[:6], honest[5], *honest[6:]],
        "isn't in order": [honest[1], honest[0], *honest[2:]],
        "has a member that nobody has pinned": [*honest, (last, *strange)],
        "lacks the device itself": honest[1:],
        "has another commitment in the device's place": [(VICTIM, *strange), *honest[1:]],
        "has a nonce that was not committed to": [*honest[:5], (5, honest[5][1], bytes(32)), *honest[6:]],
    }
    for what, entries in lists.items():
        members = made.advertised(made.root(entries))
        if _shares(made, members, entries) == bool(what):
            yield f"a device {'shares with a cohort whose list ' + what if what else 'must share with its cohort'}"
    members = made.advertised(made.root(honest))
    if _shares(made, members, honest[:-1]):
        yield "a device shares with another cohort than the one whose root it has signed"
    for what, adverts in _adverts(made, members):
        if _takes(members, honest, adverts):
            yield f"a device shares although {what}"


def _shares(made: _Committed, members: dict[int, tuple[MaskedDevice, Advert]], entries: Sequence[Entry]) -> bool:
    """Whether the victim shares its secrets with the neighbours that a list gives it."""
    return _takes(members, entries, [(each, members[each][1]) for each in made.neighbours(entries) if each in members])


def _takes(
    members: dict[int, tuple[MaskedDevice, Advert]], entries: Sequence[Entry], adverts: list[tuple[int, Advert]]
) -> bool:
    return _answers(members[VICTIM][0], Step.SHARE, 0, ShareRequest(tuple(entries), tuple(adverts)).encode())


def _adverts(
    made: _Committed, members: dict[int, tuple[MaskedDevice, Advert]]
) -> Iterator[tuple[str, list[tuple[int, Advert]]]]:
    """The neighbours' adverts with one thing wrong."""
    near = made.neighbours(made.entries)
    good = [(each, members[each][1]) for each in near]
    far = next(each for each in members if each not in (*near, VICTIM))
    first, one = good[0]

    def by_its_owner(**changes: bytes) -> list[tuple[int, Advert]]:
        other = replace(one, **changes)
        payload = advert_payload(made.context, 0, made.root(made.entries), first, other.body)
        return [(first, replace(other, signature=sign(made.world.identities[first], ADVERT, payload))), *good[1:]]

    yield "a neighbour's advert is missing", good[1:]
    yield "one is of another member", [(far, members[far][1]), *good[1:]]
    yield "its owner hasn't signed it", [(first, replace(one, mask_key=members[far][1].mask_key)), *good[1:]]
    yield "it has another nonce than the list", by_its_owner(nonce=bytes(32))
    yield "it has another neighbour's key", by_its_owner(share_key=good[1][1].share_key)
    yield "it has the device's own key", by_its_owner(mask_key=members[VICTIM][1].mask_key)


def _tosses(world: MaskedCohort) -> Iterator[str]:
    """At each step, a request of another toss; and a nonce that is to be drawn once more, or for ever."""
    server = world.begin()
    while not server.finished:
        step, machine = server.step, copy.copy(world.devices[VICTIM])
        body = server.request(VICTIM)[HEADER:]
        if step is not Step.COMMIT and _answers(machine, step, 1, body):
            yield f"a device answers a request of another toss at {step.name.lower()}"
        if step is Step.INPUT and _answers(machine, step, 0, body[:-SIGNATURE] + bytes(SIGNATURE)):
            yield "a device masks for a list of sharers that its server hasn't signed"
        world.exchange(server, {})
        if step is Step.COMMIT:
            for toss in (0, world.terms.max_tosses):
                again = copy.copy(world.devices[VICTIM])
                vars(again)["_answers"] = {}
                if _answers(again, Step.COMMIT, toss, b""):
                    yield f"a device draws a nonce for toss {toss} of {world.terms.max_tosses} after the first"


def _gaps() -> Iterator[str]:
    """Of a stretch of the ring some are lost before a device masks, others later: it counts who is missing at last."""
    evil = Adversary(ring())
    order = evil.ring()
    stretch, devices = [*order[-2:], *order[:2]], order[2:-2]  # across the ring's end
    cases = product((*combinations(stretch, CUT), stretch[:2], stretch[2:]), range(CUT))
    for device, (lost, early) in zip(devices, cases, strict=False):
        evil.mask(device, evil.all_but(*lost[:early]))
        evil.agree(device, evil.all_but(*lost))
        signs = not any("missing" in said for said in evil.refusals[-1:])
        evil.refusals.clear()
        if signs == (len(lost) == CUT):
            said = f"{len(lost)} of {STRETCH} in a row of the ring are missing, {early} before it masked"
            yield f"a device {'signs' if signs else 'must sign'} a list in which {said}"


def _opening() -> Iterator[str]:
    """What a device must be shown before it opens: nobody lost has a say, and every other survivor has signed."""
    world = MaskedCohort(8, n_min=6)
    server, lost, silent = world.begin(), 5, 6
    while server.step < Step.UNMASK:
        world.exchange(
            server, {Step.INPUT: (lost,)} if server.step < Step.CONSISTENCY else {Step.INPUT: (lost, silent)}
        )
    machine: Any = world.devices[VICTIM]
    state, honest = machine._state, UnmaskRequest.decode(server.request(VICTIM)[HEADER:], n=8)
    cohort = state.masked.cohort
    payload = consistency_payload(cohort.binding, pack_flags(state.masked.u1), pack_flags(state.survivors))
    named = np.arange(8) == lost
    of_lost = sign(world.identities[lost], CONSISTENCY, payload)
    place = int(honest.signers[:lost].sum())
    wrong = {
        "a lost device has a say": replace(
            honest,
            signers=honest.signers | named,
            signatures=(*honest.signatures[:place], of_lost, *honest.signatures[place:]),
        ),
        "a survivor hasn't signed the list of sharers": replace(honest, others=()),
        "a survivor has signed another list": replace(honest, signatures=(bytes(SIGNATURE), *honest.signatures[1:])),
    }
    if not _answers(machine, Step.UNMASK, 0, honest.encode()):
        yield "a device must open the sum of all that have survived"
    for what, request in wrong.items():
        if _answers(machine, Step.UNMASK, 0, request.encode()):
            yield f"a device opens its shares although {what}"
