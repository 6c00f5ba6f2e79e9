"""Guards: every rule of a device in a masked attempt has refused a request that breaks it, and nothing else.

A server that lies from the first step on asks copies of one real device. Each request is the honest one with one thing
wrong, and as right as it can be in all that depends on it: a list of another cohort has its own root, its members have
signed that, and a colluder signs the keys that it has copied. At every step there is a request of another toss.

Which rules there are is read from `palate_core.device.checks`, so that nobody lists them: each function there that
says what it refuses, or stores, is a guard. So is where a device asks them: each call of one there, and in
`palate_core.device.attempt`.
Through all tests of masks it is noted which of these calls refuse. One that never does asks of something else, or
nothing here breaks its rule. A list that a rule must refuse is shown to a copy of the device without that rule, too,
which answers: nothing else is wrong with it.

**Assumes:** a rule of a device stands in that module, and a step asks for it by its name there.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial, wraps
from itertools import combinations, permutations, product
from typing import Any
from unittest import mock

import numpy as np

from mechanism.secagg.adversary import Adversary
from mechanism.secagg.attacks import ring, small_rings
from mechanism.secagg.cohort import Latch, MaskedCohort
from palate_core.device import attempt, checks
from palate_core.device.attempt import MaskedDevice
from palate_core.errors import PalateError
from palate_core.masks.agreement import KeyPair
from palate_core.masks.messages import (
    HEADER,
    SIGNATURE,
    Advert,
    CheckRequest,
    Header,
    InputRequest,
    ShareRequest,
    Step,
    UnmaskRequest,
    encode_commitments,
    pack_flags,
    read,
    write,
)
from palate_core.masks.ring_cohort import Cohort
from palate_core.masks.transcript import (
    ADVERT,
    CONSISTENCY,
    MEMBERS,
    advert_payload,
    cohort_root,
    commitment_to,
    consistency_payload,
    members_payload,
    sign,
)

VICTIM = 0
STRETCH, CUT = 4, 3
"""So many of so many neighbours in a row cut a ring with 8 neighbours each, of which one may be corrupt."""
Asked = tuple[str, int]
"""A rule, and the line of an attempt in which it is asked."""
Entry = tuple[int, bytes, bytes]
"""A member, its commitment and its nonce."""


def guards() -> tuple[str, ...]:
    """The rules of a device: all functions of the module, as it is written, that say what they refuse, or store."""
    written = ast.parse(inspect.getsource(checks)).body
    own = [each for each in written if isinstance(each, ast.FunctionDef)]
    return tuple(each.name for each in own if (ast.get_docstring(each) or "").startswith(("Refuse", "Store")))


def asked() -> frozenset[Asked]:
    """Where a device asks them: each call of a rule in the steps of an attempt, and in what these build on."""
    rules, found = {*guards()}, set[Asked]()
    for each in ast.walk(ast.parse(inspect.getsource(attempt))):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in rules:
            found.add((each.func.attr, each.lineno))
    for each in ast.walk(ast.parse(inspect.getsource(checks))):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in rules:
            found.add((each.func.id, each.lineno))
    return frozenset(found)


@contextmanager
def refusing() -> Iterator[set[Asked]]:
    """Note which rules refuse, and in which line of an attempt they were asked, while the context is open."""
    refused = set[Asked]()

    def noted(name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(rule)
        def call(*given: Any, **named: Any) -> Any:
            try:
                return rule(*given, **named)
            except PalateError:
                asking = sys._getframe(1)
                if asking.f_code.co_filename in (attempt.__file__, checks.__file__):
                    refused.add((name, asking.f_lineno))
                raise

        return call

    with ExitStack() as stack:
        for name in guards():
            stack.enter_context(mock.patch.object(checks, name, noted(name, getattr(checks, name))))
        yield refused


def unmet(refused: set[Asked]) -> Iterator[str]:
    """Rules that a device asks where they have refused nothing, and rules that it asks nowhere."""
    for name, line in sorted(asked() - refused):
        yield f"the rule `{name}` of a device, asked in line {line}, has refused nothing that breaks it"
    for name in sorted({*guards()} - {name for name, _ in asked()}):
        yield f"the rule `{name}` of a device is asked nowhere"


def requests() -> Iterator[str]:
    """Requests with one thing wrong, from the first step to the last."""
    with small_rings():
        yield from _cohorts()
        yield from _tosses(ring())
        yield from _gaps()
    with small_rings(sample=12, quorum=10):
        yield from _far(ring())
    yield from _all_neighbours()
    yield from _opening()


def _answers(machine: MaskedDevice, step: Step, toss: int, body: bytes) -> bool:
    """Whether a copy of a device, which has signed nothing yet, answers a request."""
    request, own = write(Header(step, toss, machine.id, machine.terms.context), body, answer=False), copy.copy(machine)
    vars(own)["_latch"] = Latch()
    try:
        own.answer(step, request)
    except PalateError:
        return False
    except (LookupError, ValueError, TypeError):  # a message for nobody: nothing is said
        return False
    return True


STRANGE = commitment_to(bytes(32)), bytes(32)
LISTS: tuple[tuple[str, str, Callable[[list[Entry], int, int], list[Entry]]], ...] = (
    ("known_members", "names a member twice", lambda all, at, other: sorted([*_less(all, other), all[at]])),
    ("known_members", "isn't in order", lambda all, at, _: [*all[:at], all[at + 1], all[at], *all[at + 2 :]]),
    ("known_members", "has a member that isn't pinned", lambda all, at, _: [*_less(all, at), (len(all), *STRANGE)]),
    ("known_members", "has fewer members than may be", lambda all, _, __: all[: len(all) // 2]),
    ("own_entry", "has another commitment in the device's place", lambda all, _, __: [(VICTIM, *STRANGE), *all[1:]]),
    ("nonces_fit", "has a nonce that was not committed to",
     lambda all, at, _: [*all[:at], (at, all[at][1], bytes(32)), *all[at + 1 :]]),
)  # fmt: skip
"""The rule, what a list is that it forbids, and that list of an honest one and of two members."""


def _less(entries: Sequence[Entry], at: int) -> list[Entry]:
    """All but one."""
    return [*entries[:at], *entries[at + 1 :]]


class _Committed:
    """A cohort whose members have committed to nonces, and a server that may show them any list."""

    def __init__(self) -> None:
        self.world = ring()
        server = self.world.begin()
        self.world.exchange(server, {})
        self.machines = [copy.copy(each) for each in self.world.devices]
        self.context = self.world.terms.context
        states: list[Any] = [each._state for each in self.machines]
        self.entries: list[Entry] = [(at, each.nonce.commitment, each.nonce.value) for at, each in enumerate(states)]

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

    def apart(self, entries: Sequence[Entry]) -> bool:
        """Whether a list gives the victim neighbours who are each in it once, as they have committed."""
        usual = [each for each in self.entries if entries.count(each) == 1]
        return {*self.neighbours(entries)} <= {each for each, _, _ in usual} and len({*self.neighbours(entries)}) > 1

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
    honest = made.entries
    for rule, what, of in LISTS:
        pairs = permutations(range(1, len(honest) - 1), 2)
        entries = next(filter(made.apart, (of(honest, *pair) for pair in pairs)), None)
        if entries is None:
            yield f"a list that {what} must leave the device's neighbours as they are, got none"
            continue
        members = made.advertised(made.root(entries))
        yield from _by_rule(rule, what, partial(_shares, made, members, entries))
    members = made.advertised(made.root(honest))
    if not _shares(made, members, honest):
        yield "a device must share with its cohort"
    if _shares(made, members, honest[1:]):
        yield "a device shares with a cohort whose list lacks it"
    if _shares(made, members, honest[:-1]):
        yield "a device shares with another cohort than the one whose root it has signed"
    for what, adverts in _adverts(made, members):
        if _takes(members, honest, adverts):
            yield f"a device shares although {what}"


def _by_rule(rule: str, what: str, answers: Callable[[], bool]) -> Iterator[str]:
    """What one rule forbids, and nothing else."""
    if answers():
        yield f"a device answers a list that {what}"
    with mock.patch.object(checks, rule, return_value=None):
        if not answers():
            yield f"a device must refuse a list that {what} by `{rule}` alone, and refuses it without that"


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
        for rule, what, asked_for in _shorter(world, machine, step, body):
            yield from _by_rule(rule, f"{what}, at {step.name.lower()}", partial(_answers, machine, step, 0, asked_for))
        if step is Step.INPUT and _answers(machine, step, 0, body[:-SIGNATURE] + bytes(SIGNATURE)):
            yield "a device masks for a list of sharers that its server hasn't signed"
        world.exchange(server, {})
        if step is Step.COMMIT:
            for toss in (0, world.terms.max_tosses):
                again = copy.copy(world.devices[VICTIM])
                vars(again)["_answers"] = {}
                if _answers(again, Step.COMMIT, toss, b""):
                    yield f"a device draws a nonce for toss {toss} of {world.terms.max_tosses} after the first"


def _all_neighbours() -> Iterator[str]:
    """Without a ring everybody's advert is the list: one of a member that signs two, or of the device's own keys."""
    world = MaskedCohort(8, n_min=6)
    server = world.begin()
    world.exchange(server, {})
    machine = world.devices[VICTIM]
    honest = ShareRequest.decode(server.request(VICTIM)[HEADER:], committed=False, n_max=8)
    if not _answers(machine, Step.SHARE, 0, honest.encode()):
        yield "a device must share with all others"

    def signs(device: int) -> tuple[int, Advert]:
        body = replace(
            honest.adverts[device][1], share_key=KeyPair.generate().public, mask_key=KeyPair.generate().public
        )
        payload = advert_payload(world.terms.context, 0, b"", device, body.body)
        return device, replace(body, signature=sign(world.identities[device], ADVERT, payload))

    wrong = {
        ("known_members", "names a member twice"): [*honest.adverts[:6], signs(5), *honest.adverts[7:]],
        ("own_entry", "has other keys in the device's place"): [signs(VICTIM), *honest.adverts[1:]],
    }
    for (rule, what), adverts in wrong.items():
        request = replace(honest, adverts=tuple(adverts)).encode()
        yield from _by_rule(rule, what, partial(_answers, machine, Step.SHARE, 0, request))


def _shorter(world: MaskedCohort, machine: MaskedDevice, step: Step, body: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Rules, what a list is that they forbid, and the request with it, at each step that shows a device a list."""
    state: Any = machine._state
    if step not in (Step.CHECK, Step.INPUT, Step.CONSISTENCY):
        return
    cohort, n = state.cohort, len(state.cohort)
    around = [VICTIM]
    while len(around) < n:
        around.append(int(cohort.neighbours(around[-1])[cohort.degree // 2]))
    missing = {
        ("listed", "lacks the device"): [VICTIM],
        ("no_cut", "has a gap in the ring"): around[5 : 5 + CUT],
        ("enough", "is too short"): around[1::2][: n - world.terms.n_min + 1],
    }
    for (rule, what), lost in missing.items():
        flags = ~np.isin(np.arange(n), lost)
        if step is Step.CONSISTENCY:
            yield rule, what, pack_flags(flags)
        elif step is Step.INPUT:
            payload = members_payload(cohort.binding, pack_flags(flags))
            yield rule, what, InputRequest(flags, sign(world.server, MEMBERS, payload)).encode()
        elif rule == "listed":
            yield rule, what, replace(CheckRequest.decode(body, n=n), shared=flags).encode()


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


def _far(world: MaskedCohort) -> Iterator[str]:
    """Of a ring, members who are nobody's neighbours have signed another list."""
    server = world.begin()
    while server.step < Step.UNMASK:
        world.exchange(server, {})
    machine: Any = world.devices[VICTIM]
    state = machine._state.masked
    honest = UnmaskRequest.decode(server.request(VICTIM)[HEADER:], n=len(state.cohort))
    near = {VICTIM, *state.neighbours.tolist()}
    signatures = zip(np.flatnonzero(honest.signers).tolist(), honest.signatures, strict=True)
    request = replace(honest, signatures=tuple(each if at in near else bytes(SIGNATURE) for at, each in signatures))
    if _answers(machine, Step.UNMASK, 0, request.encode()):
        yield "a device opens its shares although members that it draws have signed another list"
