"""Secrets: every secret of a masked attempt is made of bytes that were drawn for it, in that step, and once.

While the attacks are played, and in attempts of their own with several tosses, all randomness is recorded where it
comes from.

- **nonce, self-mask, keys**: each is among what its own step has drawn; none was there before, in any toss, attempt,
  device or box. Public halves and digests are theirs. Key pairs are found by looking through the states of devices.
- **thresholds**: what a device deals is what its graph was made for, and looked at with.
- **shares**: the polynomial through the shares, worked out once more in bits, has the secret, and then the drawn bytes:
  t - 1 coefficients of full length, each byte used once. So any t - 1 shares are uniform, whatever the secret.
- **boxes**: no key and nonce encrypt twice.
- **masks**: a self-mask is added by one device in one attempt, a pair's by two, in one attempt and with both signs;
  each device has as many as neighbours that share, and one of its own.
- **draws**: whom a device asks among all members takes as many random bits as there are choices.
- **signatures**: each contains the attempt, and the toss.

By chance two secrets of 32 bytes are equal with a probability below 2^-200.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from mechanism.secagg.attacks import small_rings
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.watching import Call, SecretSplit, Watch, watched
from palate_core.device import attempt
from palate_core.device.states import Advertised, Agreed, Done, Fresh, MaskedSent, Shared
from palate_core.masks.agreement import KeyPair
from palate_core.masks.messages import HASH, Header, Step, write
from reference.shamir import polynomial

CORRUPT = (8, 7, 4)
"""Devices, survivors and corrupt devices of an attempt in which a majority of shares is far from enough."""
TOSSES, LOOKED_AT = 3, 6
"""Tosses of a device by itself, and splits of each kind that are worked out again."""
SPLITS = ((64, 5, 3), (64, 3, 3), (32, 4, 2), (1, 9, 5), (64, 300, 4), (128, 260, 2))
"""(bytes, shares, threshold): both fields, and lengths of one secret and of two."""


def secrets(seen: Watch) -> Iterator[str]:
    """All that was watched, and attempts of their own."""
    with watched() as more:
        world = MaskedCohort(5, n_min=4)
        for _ in range(2):
            world.run()
        MaskedCohort(CORRUPT[0], n_min=CORRUPT[1], c_max=CORRUPT[2]).run()
        _tossed()
        direct = list(_splits())
    calls = [*seen.calls, *more.calls]
    for look in (_made, _boxes, _masks, _draws, _signatures):
        yield from look(calls)
    yield from _dealt(calls)
    yield from _shares([each for call in calls for each in call.splits], direct)


def _tossed() -> None:
    """Devices of a ring that begin again and again, before anything was shared."""
    with small_rings():
        world = MaskedCohort(24, n_min=14, n_max=251)
        for device in range(3):
            for toss in range(TOSSES):
                for step, body in ((Step.COMMIT, b""), (Step.ADVERTISE, bytes([toss]) * HASH)):
                    header = Header(step, toss, device, world.terms.context)
                    world.devices[device].answer(step, write(header, body, answer=False))


def _made(calls: list[Call]) -> Iterator[str]:
    """Nonces, self-masks and key pairs, in whatever state they are: of this step's bytes, and never seen before."""
    before: set[bytes] = set()
    dealt = 0
    for call in calls:
        if call.refused:
            continue
        state, who = call.after, f"device {call.device.id} at {call.step.name.lower()}"
        had = {pair.private_bytes() for _, pair in _pairs(call.before)}
        new = [(name, pair.private_bytes()) for name, pair in _pairs(state) if pair.private_bytes() not in had]
        made: dict[str, tuple[bytes, list[bytes]]] = {name: (secret, call.pairs) for name, secret in new}
        dealt += call.step is Step.SHARE and len(new)
        if isinstance(state, Fresh) and state.nonce is not None and call.step is Step.COMMIT:
            made["nonce"] = (state.nonce.value, call.drawn)
        if isinstance(state, Advertised) and call.step is Step.ADVERTISE:
            made["self-mask"] = (state.self_mask, call.drawn)
            own = state.advert
            if own.self_digest != hashlib.sha256(state.self_mask).digest():
                yield f"{who} shows the digest of another self-mask than its own"
            if (own.share_key, own.mask_key) != (state.share_pair.public, state.mask_pair.public):
                yield f"{who} shows other keys than its own"
        for what, (secret, source) in made.items():
            if len(secret) != 32 or secret not in source:
                yield f"the {what} of {who} is not of 32 bytes that were drawn for it"
            if secret in before:
                yield f"the {what} of {who} was used before"
            before.add(secret)
    if not dealt:
        yield "boxes must be made with key pairs of their own, and none were"


def _pairs(state: object) -> Iterator[tuple[str, KeyPair]]:
    """The key pairs that a state keeps, with their places in it."""
    for each in fields(state) if is_dataclass(state) else ():
        value = getattr(state, each.name)
        if isinstance(value, KeyPair):
            yield each.name, value
        elif isinstance(value, tuple):
            yield from ((f"{each.name} {at}", one) for at, one in enumerate(value) if isinstance(one, KeyPair))


def _boxes(calls: list[Call]) -> Iterator[str]:
    """No key encrypts two messages with one nonce."""
    used = Counter(each for call in calls for each in call.sealed)
    if not used:
        yield "boxes must be encrypted, and none were"
    if any(count > 1 for count in used.values()):
        yield "two boxes are encrypted with one key and one nonce"


def _masks(calls: list[Call]) -> Iterator[str]:
    """Who adds and subtracts the mask of which key."""
    users: dict[bytes, list[tuple[bytes, int, int]]] = defaultdict(list)
    for call in calls:
        if call.step is not Step.INPUT or not isinstance(call.after, MaskedSent):
            continue
        state = call.after
        place = (call.device.terms.context, call.device.id)
        for sign, keys in ((1, call.added), (-1, call.subtracted)):
            for key in keys:
                users[key].append((*place, sign))
        expected = 1 + int(state.u1[state.neighbours].sum())
        if len(call.added) + len(call.subtracted) != expected:
            yield f"{len(call.added) + len(call.subtracted)} masks lie on a vector, there must be {expected}"
    for each in users.values():
        if len(each) > 2 or len({device for _, device, _ in each}) < len(each):
            yield f"the key of one mask was used {len(each)} times"
        elif len(each) == 2 and (each[0][0] != each[1][0] or each[0][2] == each[1][2]):
            yield "the two uses of a mask must be in one attempt, and cancel"
    if not users:
        yield "vectors must be masked, and none were"


def _draws(calls: list[Call]) -> Iterator[str]:
    """The choice among all members of a ring is as random as it can be."""
    found = []
    for call in calls:
        # The draw comes after all that may refuse, but for its own outcome; the device is done with its secrets then.
        if call.step is Step.UNMASK and isinstance(call.before, Agreed) and isinstance(call.after, Done):
            cohort = call.before.masked.cohort
            if cohort.sample:
                bits = math.log2(math.comb(len(cohort) - 1, cohort.sample))
                found.append((8 * sum(map(len, call.drawn)), bits, b"".join(call.drawn)))
    if not found:
        yield "devices of a ring must draw from all of its members, and none has"
    for drawn, bits, _ in found:
        if drawn < bits:
            yield f"a device asks some of all members, a choice of {bits:.0f} bits, by {drawn} random bits"
    if len({words for _, _, words in found}) < len(found):
        yield "two devices have drawn by the same random bytes"


def _signatures(calls: list[Call]) -> Iterator[str]:
    """Everything that a device signs names its attempt and its toss."""
    for call in calls:
        toss = getattr(call.before, "toss", 0) if call.step is not Step.COMMIT else getattr(call.after, "toss", 0)
        place = call.device.terms.context + toss.to_bytes(2, "little")
        for tag, payload in call.signed:
            if place not in payload:
                yield f"what is signed as {tag} does not name its attempt and toss"


def _dealt(calls: list[Call]) -> Iterator[str]:
    """Each device deals as many shares as it has neighbours, with the threshold that the graph was looked at with."""
    for call in calls:
        if call.step is not Step.SHARE or not isinstance(call.after, Shared):
            continue
        cohort, corrupt = call.after.cohort, call.device.terms.c_max
        for each in call.splits:
            if (each.threshold, len(each.shares)) != (cohort.threshold, cohort.degree):
                yield (
                    f"a device deals {len(each.shares)} shares of which {each.threshold} open a secret, and its graph "
                    f"is made for {cohort.threshold} of {cohort.degree}"
                )
            if cohort.degree == len(cohort) - 1 and 2 * each.threshold <= cohort.degree + corrupt:
                yield f"{each.threshold} shares of {cohort.degree} open both secrets, with {corrupt} that are corrupt"
        if not call.splits:
            yield f"device {call.device.id} deals shares of no secret"


def _splits() -> Iterator[SecretSplit]:
    """Secrets split one by one, in both fields, by the function that devices use."""
    with watched() as seen:
        for size, shares, threshold in SPLITS:
            for value in (0, 255):
                secret = bytes([value]) * size
                outside = seen.now
                seen.open.append(outside)
                vars(attempt)["split"](secret, shares=shares, threshold=threshold)
                yield from outside.splits
                seen.open.pop()


def _shares(watched_splits: list[SecretSplit], direct: list[SecretSplit]) -> Iterator[str]:
    """The polynomial of some splits has the secret first, and then what was drawn."""
    if not watched_splits:
        yield "secrets must be split, and none were"
    kinds: Counter[tuple[int, int, int]] = Counter()
    for each in [*direct, *watched_splits]:
        needed = (each.threshold - 1) * len(each.secret)
        if len(each.drawn) != needed:
            yield f"{needed} random bytes make {each.threshold - 1} coefficients, {len(each.drawn)} were drawn"
            continue
        kind = (len(each.secret), each.threshold, len(each.shares))
        kinds[kind] += 1
        if kinds[kind] <= LOOKED_AT:
            yield from _coefficients(each)


def _coefficients(split: SecretSplit) -> Iterator[str]:
    """What the polynomial through the first shares, and through the last ones, is made of."""
    bits, total = 8 if len(split.shares) <= 255 else 16, len(split.shares)
    for first in {0, total - split.threshold}:
        rows = {at + 1: split.shares[at].tobytes() for at in range(first, first + split.threshold)}
        found = polynomial(rows, bits=bits)
        if found[0] != split.secret:
            yield f"{split.threshold} shares of {total} give another secret than was split"
        if b"".join(found[1:]) != split.drawn:
            yield "the coefficients of a split secret are not the bytes that were drawn for them, each once"
