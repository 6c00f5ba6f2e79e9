"""Mutants of secure aggregation: foretold or reused secrets, bare coordinates, two signatures, baseless strikes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np

from mutants.mutant import mutant
from palate_client.rounds import contribution
from palate_common.secagg.evidence import FaultEvidence
from palate_core.device import attempt as masked
from palate_core.device import channels as masked_letters
from palate_core.device import checks as masked_checks
from palate_core.device.states import Advertised, Checked
from palate_core.masks import attempt_terms as masked_attempt
from palate_core.masks import boxes
from palate_core.masks import ring_cohort as cohort
from palate_core.masks.agreement import KeyPair
from palate_core.masks.directory import Directory
from palate_core.masks.graph_terms import GraphTerms, graph_terms
from palate_core.masks.masking import Masker
from palate_core.masks.packing import Residues
from palate_core.masks.transcript import ADVERT, AttemptTerms, advert_payload, pair_info, sign
from palate_core.plan import SignedPlan
from palate_server.rounds import coordinator
from palate_server.secagg import conduct, recovery
from palate_server.secagg import sum as unmasking

Latch = Callable[[str, str], None]


def _unlatched(step: str) -> Any:
    """Don't bind a device to what it has signed at a step."""
    real = masked_checks.latched

    def instead(latch: Latch, at: str, digest: str) -> None:
        if at != step:
            real(latch, at, digest)

    return mock.patch.object(masked_checks, "latched", instead)


@mutant(
    "two signatures accepted",
    bug="a device that was restored signs a second list of survivors",
    seen="state that is kept in memory; one secret of a device opens by each list",
    test="masks",
)
def two_signatures() -> Iterator[None]:
    with _unlatched("consistency"):
        yield


@mutant(
    "two U1 views accepted, one device",
    bug="a device that was restored masks again, with another list of sharers",
    seen="two masked vectors of one device differ by the masks of a few",
    test="masks",
)
def two_views() -> Iterator[None]:
    with _unlatched("input"):
        yield


@mutant(
    "two U1 views accepted, among devices",
    bug="devices don't ask whether the others were shown the same list of sharers",
    seen="SecAgg+ in its semi-honest form",
    test="masks",
)
def views_of_others() -> Iterator[None]:
    with mock.patch.object(masked_checks, "same_sharers"):
        yield


@mutant(
    "c_max ignored by the graph",
    bug="thresholds are those of a cohort without corrupt devices",
    seen="t = n / 2 + 1 whoever is in it",
    test="masks",
    at=(cohort, "graph_terms"),
)
def honest_graph(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
    return graph_terms(n, corrupt=0, dropped=dropped)


@mutant(
    "attempt missing from the KDF",
    bug="keys between two devices are derived without the attempt",
    seen="fresh keys make it harmless, until one is kept for a retry: then two vectors share a mask",
    test="masks",
)
def no_attempt() -> Iterator[None]:

    def info(role: str, context: bytes, toss: int, lower: Any, higher: Any) -> bytes:
        return pair_info(role, bytes(32), toss, lower, higher)

    with mock.patch.object(masked_letters, "pair_info", info), mock.patch.object(recovery, "pair_info", info):
        yield


@mutant(
    "b reused",
    bug="a device has one self mask for all its attempts",
    seen="a secret that is drawn when the app starts",
    test="masks",
    at=(masked.MaskedDevice, "_advertise"),
)
def one_self_mask(real: Any, self: masked.MaskedDevice, state: Any, toss: int, body: bytes) -> tuple[Any, bytes]:
    after, _ = real(self, state, toss, body)
    if not isinstance(after, Advertised):
        return after, _
    secret = hashlib.sha256(self._identity.public.encode()).digest()
    shown = after.advert
    own = replace(shown, self_digest=hashlib.sha256(secret).digest(), signature=b"")
    payload = advert_payload(self.terms.context, toss, after.root, self.id, own.body)
    signed = replace(own, signature=sign(self._identity, ADVERT, payload))
    return replace(after, self_mask=secret, advert=signed), signed.encode()


@mutant(
    "mask only on touched coordinates",
    bug="coordinates that are zero are sent without masks",
    seen="sparse secure aggregation that saves what it can",
    test="masks",
    at=(masked.MaskedDevice, "_mask"),
)
def touched_only(
    real: Any, self: masked.MaskedDevice, state: Checked, keys: list[tuple[int, bytes]], signed: Any
) -> bytes:
    apply = Masker.apply

    def some(masker: Masker, total: Residues, **keys: Sequence[bytes]) -> None:
        idle = total == 0
        apply(masker, total, **keys)
        total[idle] = 0

    with mock.patch.object(Masker, "apply", some):
        return real(self, state, keys, signed)


@mutant(
    "mask keystream restarts",
    bug="the keystream of a mask begins anew every 128 KB, so that stretches of a vector share their masks",
    seen="a cipher that is made inside the loop over parts",
    test="masks",
    at=(Masker, "apply"),
)
def restarting(real: Any, self: Masker, total: Residues, **keys: Sequence[bytes]) -> None:
    for start in range(0, self.size, self._step):
        part = total[start : start + self._step]
        real(Masker(len(part), 8 * self.dtype.itemsize), part, **keys)


@mutant(
    "absent devices counted as corrupt",
    bug="devices that stay away are taken off the corrupt ones, so that a smaller cohort has a weaker threshold",
    seen="a share of those who have come, where the plan has a number",
    test="masks",
    at=(cohort.Cohort, "__init__"),
)
def absent_corrupt(real: Any, self: cohort.Cohort, terms: AttemptTerms, *, ids: Sequence[int], **rest: Any) -> None:
    graph: Callable[..., GraphTerms] = vars(cohort)["graph_terms"]

    def shape(n: int, *, corrupt: int, dropped: int) -> GraphTerms:
        return graph(n, corrupt=max(1, corrupt - (terms.n_max - n)), dropped=dropped)

    with mock.patch.object(cohort, "graph_terms", shape):
        real(self, terms, ids=ids, **rest)


@mutant(
    "coefficients for two secrets",
    bug="both secrets of a device are split with the same random coefficients",
    seen="fewer random bytes; one share of both gives their difference",
    test="masks",
    at=(masked, "split"),
)
def shared_coefficients(real: Any, secret: bytes, *, shares: int, threshold: int) -> Any:
    if len(secret) != 64:
        return real(secret, shares=shares, threshold=threshold)
    first = real(secret[:32], shares=shares, threshold=threshold)
    difference = np.frombuffer(bytes(a ^ b for a, b in zip(secret[:32], secret[32:], strict=True)), np.uint8)
    return np.concatenate([first, first ^ difference], axis=1)


@mutant(
    "a draw that can be foretold",
    bug="which members a device asks follows from its place and the cohort's size",
    seen="a seeded generator, so that a repeated request gets the same answer",
    test="masks",
    at=(masked_checks, "draw"),
)
def foretold_draw(n: int, me: int, size: int) -> set[int]:
    drawn = random.Random(f"{n}/{me}").sample(range(n - 1), size)  # noqa: S311 - that is the bug
    return {member + (member >= me) for member in drawn}


@mutant(
    "a context that lacks the plan",
    bug="an attempt's context names its round, and neither attempt nor plan nor ledger",
    seen="a hash over the fields that somebody thought of",
    test="masks",
)
def context_of_a_round() -> Iterator[None]:
    real = masked_attempt.attempt_terms

    def instead(signed: SignedPlan) -> AttemptTerms:
        named = f"{signed.plan.run}/{signed.plan.round}".encode()
        return replace(real(signed), context=hashlib.sha256(named).digest())

    with (
        mock.patch.object(masked_attempt, "attempt_terms", instead),
        mock.patch.object(contribution, "attempt_terms", instead),
        mock.patch.object(coordinator, "attempt_terms", instead),
    ):
        yield


@mutant(
    "strike without evidence",
    bug="the server strikes a device for a record that doesn't hold",
    seen="a record that is kept as it came, since it was made here",
    test="masks",
    at=(conduct, "holds"),
)
def unchecked_strike(record: FaultEvidence, directory: Any, *, context: bytes) -> bool:
    return record.attempt == context.hex()


@mutant(
    "evidence of another attempt accepted",
    bug="the server strikes a device, in one attempt after another, for what it has signed in one",
    seen="signatures are checked, and what they are of isn't",
    test="masks",
    at=(conduct, "holds"),
)
def old_evidence(real: Any, record: FaultEvidence, directory: Directory, *, context: bytes) -> bool:
    return real(record, directory, context=bytes.fromhex(record.attempt))


@mutant(
    "commitment not compared, by the receiver",
    bug="a device signs for a box whose share isn't the one that is committed to",
    seen="authenticated encryption is taken for a proof of what was dealt; later the device is named for its share",
    test="masks",
    at=(masked, "open_box"),
)
def careless_receiver(real: Any, label: boxes.Label, box: bytes, pair: KeyPair) -> boxes.Dealt | None:
    with mock.patch.object(boxes, "commitments_of", return_value=mock.ANY):
        return real(label, box, pair)


@mutant(
    "commitment not compared, by the server",
    bug="the server takes shares that aren't those that were dealt",
    seen="shares are combined first, and a wrong secret has no author",
    test="masks",
)
def careless_server() -> Iterator[None]:
    with mock.patch.object(unmasking, "piece_fits", return_value=True):
        yield


@mutant(
    "opening without a signed complaint",
    bug="a device opens its box for whomever the server names",
    seen="the server is believed about who complains",
    test="masks",
)
def unsigned_complaint() -> Iterator[None]:
    with mock.patch.object(masked_checks, "complained_of"):
        yield


@mutant(
    "opening after the latch",
    bug="a device that was restored opens its boxes again, after it has masked",
    seen="the latch covers what is signed about the sum, and openings were added later",
    test="masks",
)
def late_openings() -> Iterator[None]:
    with mock.patch.object(masked_checks, "latched_openings"):
        yield


@mutant(
    "one key for all boxes",
    bug="a device makes all of its boxes with one key pair, so that opening one of them opens all",
    seen="a key pair a deal, to save time",
    test="masks",
)
def one_key() -> Iterator[None]:
    real, kept = boxes.make_box, dict[tuple[bytes, str], KeyPair]()

    def instead(label: Any, shares: bytes, identity: Any) -> Any:
        place = label.binding, identity.public
        if place not in kept:
            kept[place] = KeyPair.generate()
        with mock.patch.object(KeyPair, "generate", staticmethod(lambda: kept[place])):
            return real(label, shares, identity)

    with mock.patch.object(masked, "make_box", instead):
        yield


@mutant(
    "a share less opens a secret",
    bug="devices deal their secrets with a threshold that is lower by one than the graph's",
    seen="a degree that is taken for a number of shares",
    test="masks",
)
def lower_threshold() -> Iterator[None]:
    graph, label = masked.MaskedDevice._cohort, boxes.Label.of
    low: set[int] = set()

    def lowered(self: masked.MaskedDevice, *given: Any) -> Any:
        found, adverts = graph(self, *given)
        found.threshold -= 1
        low.add(id(found))
        return found, adverts

    def labelled(graph: Any, **named: Any) -> Any:
        if id(graph) in low:
            low.remove(id(graph))
            graph.threshold += 1
        return label(graph, **named)

    with (
        mock.patch.object(masked.MaskedDevice, "_cohort", lowered),
        mock.patch.object(boxes.Label, "of", labelled),
    ):
        yield


@mutant(
    "neighbours of the server's choice",
    bug="a device shares its secrets with the members that the server names, and not with those of the drawn ring",
    seen="a check of the first steps, which no attack begins before; the operator's own devices hold all shares",
    test="masks",
)
def chosen_neighbours() -> Iterator[None]:
    with mock.patch.object(masked_checks, "expected_adverts"):
        yield


@mutant(
    "a plan with masks answered in the clear",
    bug="a device that is asked without masks answers, though its plan has them",
    seen="a way through the code that is taken by what the server sends, and not by what the plan says",
    test="ledgers",
)
def in_the_clear() -> Iterator[None]:
    real = contribution.Contributor._verify

    def verified(self: contribution.Contributor, *given: bytes) -> Any:
        found, model = real(self, *given)
        signed, cohort = found.signed, found.signed.plan.cohort
        if cohort is None or not cohort.masks:
            return found, model
        plan = signed.plan.model_copy(update={"cohort": cohort.model_copy(update={"masks": False, "directory": None})})
        return replace(found, signed=signed.model_copy(update={"plan": plan})), model

    def contribute(self: contribution.Contributor, *given: bytes) -> bytes:
        with mock.patch.object(contribution.Contributor, "_verify", verified):
            return answered(self, *given)

    answered = contribution.Contributor.contribute
    with mock.patch.object(contribution.Contributor, "contribute", contribute):
        yield


@mutant(
    "losses before and after masking counted apart",
    bug="a stretch of the ring is missing as a whole, a part of it before a device masks, and the device signs",
    seen="who is missing looked at once for each list, as each list is new",
    test="masks",
)
def losses_apart() -> Iterator[None]:
    real, first = masked_checks.no_cut, WeakKeyDictionary[cohort.Cohort, Any]()

    def no_cut(of: cohort.Cohort, flags: Any) -> None:
        earlier = first.setdefault(of, flags)
        real(of, flags if earlier is flags else flags | ~earlier)

    with mock.patch.object(masked_checks, "no_cut", no_cut):
        yield


@mutant(
    "a member named several times",
    bug="a list names one corrupt device as often as it takes to reach the fewest members",
    seen="an order that is compared with <= where nothing may be equal",
    test="masks",
    at=(masked_checks, "known_members"),
)
def member_twice(real: Any, ids: Sequence[int], **rest: Any) -> None:
    real([each for at, each in enumerate(ids) if not at or each != ids[at - 1]], **rest)


@mutant(
    "survivors counted before they are lost",
    bug="a device signs a list of survivors that is shorter than the sum's noise was charged for",
    seen="a rule that is asked of the list before",
    test="masks",
    at=(masked.MaskedDevice, "_agree"),
)
def counted_before(real: Any, self: masked.MaskedDevice, state: Any, toss: int, body: bytes) -> Any:
    rule = masked_checks.enough
    with mock.patch.object(masked_checks, "enough", lambda _, *, terms: rule(state.u1, terms=terms)):
        return real(self, state, toss, body)
