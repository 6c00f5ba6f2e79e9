"""Mutants of secure aggregation: foretold or reused secrets, bare coordinates, two signatures, baseless strikes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

from mutants.mutant import mutant, rows
from palate_core.device import attempt as masked
from palate_core.device import checks as masked_checks
from palate_core.masks import boxes
from palate_core.masks import ring_cohort as cohort
from palate_core.masks.agreement import KeyPair

Latch = Callable[[str, str], None]


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


rows(
    __name__,
    """
two signatures accepted | masks
bug: a device that was restored signs a second list of survivors
seen: state that is kept in memory; one secret of a device opens by each list
@ palate_core.device.checks:latch_payload
- latched(latch, step, hashlib.sha256(payload).hexdigest())
+ if step != "consistency":
+     latched(latch, step, hashlib.sha256(payload).hexdigest())

two U1 views accepted, one device | masks
bug: a device that was restored masks again, with another list of sharers
seen: two masked vectors of one device differ by the masks of a few
@ palate_core.device.checks:latch_payload
- latched(latch, step, hashlib.sha256(payload).hexdigest())
+ if step != "input":
+     latched(latch, step, hashlib.sha256(payload).hexdigest())

two U1 views accepted, among devices | masks
bug: devices don't ask whether the others were shown the same list of sharers
seen: SecAgg+ in its semi-honest form
@ palate_core.device.checks:same_sharers
- if len(signatures) != len(others):
+ return
+ if len(signatures) != len(others):

c_max ignored by the graph | masks
bug: thresholds are those of a cohort without corrupt devices
seen: t = n / 2 + 1 whoever is in it
@ palate_core.masks.ring_cohort:Cohort.__init__
- corrupt=terms.c_max
+ corrupt=0

attempt missing from the KDF | masks
bug: keys between two devices are derived without the attempt
seen: fresh keys make it harmless, until one is kept for a retry: then two vectors share a mask
@ palate_core.masks.transcript:pair_info
- context + _u16(toss)
+ bytes(32) + _u16(toss)

b reused | masks
bug: a device has one self mask for all its attempts
seen: a secret that is drawn when the app starts
@ palate_core.device.attempt:MaskedDevice._advertise
- os.urandom(32)
+ hashlib.sha256(self._identity.public.encode()).digest()

mask only on touched coordinates | masks
bug: coordinates that are zero are sent without masks
seen: sparse secure aggregation that saves what it can
@ palate_core.device.attempt:MaskedDevice._mask
- return pack(
+ total[steps == 0] = 0
+ return pack(

mask keystream restarts | masks
bug: the keystream of a mask begins anew every 128 KB, so that stretches of a vector share their masks
seen: a cipher that is made inside the loop over parts
@ palate_core.masks.masking:Masker.apply
- part = total[start : start + self._step]
+ part = total[start : start + self._step]
+ streams = [(np.add, _keystream(key)) for key in added] + [(np.subtract, _keystream(key)) for key in subtracted]

absent devices counted as corrupt | masks
bug: devices that stay away are taken off the corrupt ones, so that a smaller cohort has a weaker threshold
seen: a share of those who have come, where the plan has a number
@ palate_core.masks.ring_cohort:Cohort.__init__
- corrupt=terms.c_max
+ corrupt=max(1, terms.c_max - (terms.n_max - n))

coefficients for two secrets | masks
bug: both secrets of a device are split with the same random coefficients
seen: fewer random bytes; one share of both gives their difference
@ palate_core.masks.shamir:split
- random = os.urandom((threshold - 1) * len(secret))
+ both = 2 if len(secret) == 64 else 1
+ random = b"".join(both * os.urandom(len(secret) // both) for _ in range(threshold - 1))

a draw that can be foretold | masks
bug: which members a device asks follows from its place and the cohort's size
seen: a seeded generator, so that a repeated request gets the same answer
@ palate_core.device.checks:draw
- SystemRandom().sample
+ __import__("random").Random(f"{n}/{me}").sample

a context that lacks the plan | masks
bug: an attempt's context names its round, and neither attempt nor plan nor ledger
seen: a hash over the fields that somebody thought of
@ palate_core.masks.attempt_terms:attempt_terms
- context=hashlib.sha256(canonical_json(facts)).digest(),
+ context=hashlib.sha256(f"{plan.run}/{plan.round}".encode()).digest(),

strike without evidence | masks
bug: the server strikes a device for a record that doesn't hold
seen: a record that is kept as it came, since it was made here
@ palate_server.secagg.conduct:holds
- and check(record.to_bytes(), directory) == record.device

evidence of another attempt accepted | masks
bug: the server strikes a device, in one attempt after another, for what it has signed in one
seen: signatures are checked, and what they are of isn't
@ palate_server.secagg.conduct:holds
- record.attempt == context.hex() and

commitment not compared, by the receiver | masks
bug: a device signs for a box whose share isn't the one that is committed to
seen: authenticated encryption is taken for a proof of what was dealt; later the device is named for its share
@ palate_core.masks.boxes:open_box
- if fits else None

commitment not compared, by the server | masks
bug: the server takes shares that aren't those that were dealt
seen: shares are combined first, and a wrong secret has no author
@ palate_core.masks.boxes:piece_fits
- return share_commitment(
+ return True
+ return share_commitment(

opening without a signed complaint | masks
bug: a device opens its box for whomever the server names
seen: the server is believed about who complains
@ palate_core.device.checks:complained_of
- if not complaint.receipt.accused[slot]:
+ return
+ if not complaint.receipt.accused[slot]:

opening after the latch | masks
bug: a device that was restored opens its boxes again, after it has masked
seen: the latch covers what is signed about the sum, and openings were added later
@ palate_core.device.checks:latched_openings
- latch("open", digest)
+ pass

neighbours of the server's choice | masks
bug: a device shares its secrets with the members that the server names, and not with those of the drawn ring
seen: a check of the first steps, which no attack begins before; the operator's own devices hold all shares
@ palate_core.device.checks:expected_adverts
- if list(found) != list(expected):
+ if False:

a member named several times | masks
bug: a list names one corrupt device as often as it takes to reach the fewest members
seen: an order that is compared with <= where nothing may be equal
@ palate_core.device.checks:known_members
- first < second for
+ first <= second for

survivors counted before they are lost | masks
bug: a device signs a list of survivors that is shorter than the sum's noise was charged for
seen: a rule that is asked of the list before
@ palate_core.device.attempt:MaskedDevice._agree
- flags = unpack_flags(body, len(cohort))
+ flags = unpack_flags(body, len(cohort))
+ checks.checked_list(state.u1, me=state.me, cohort=cohort, terms=self.terms)
- survivors = checks.checked_list(flags, me=state.me, cohort=cohort, terms=self.terms)
+ survivors = checks.CheckedList(flags)

a plan with masks answered in the clear | ledgers
bug: a device that is asked without masks answers, though its plan has them
seen: a way through the code that is taken by what the server sends, and not by what the plan says
@ palate_client.rounds.contribution:Contributor.contribute
- if plan.cohort is not None and plan.cohort.masks:
+ if False:

a share less opens a secret | masks
bug: devices deal their secrets with a threshold that is lower by one than the graph's
seen: a degree that is taken for a number of shares
@ palate_core.device.attempt:MaskedDevice._share
- threshold=cohort.threshold)
+ threshold=cohort.threshold - 1)
""",
)
