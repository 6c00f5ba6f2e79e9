"""What a device insists on before each step of a masked attempt.

A lying server needs one of these to be missing; the attacks in the tests recover somebody's vector, or the sum of a
few, without it. Each says in one line what it prevents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from secrets import SystemRandom

from palate_common.errors import IntegrityError, RefusedError
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.directory import Directory
from palate_common.secagg.messages import Advert, Flags
from palate_common.secagg.transcript import (
    ADVERT,
    CONSISTENCY,
    INPUT,
    MEMBERS,
    AttemptTerms,
    advert_payload,
    check_signature,
    commitment_to,
    members_payload,
)


def next_toss(toss: int, last: int, *, terms: AttemptTerms) -> None:
    """A toss again, or one of very many, would let the server draw rings until one suits it."""
    if not last < toss < terms.max_tosses:
        raise RefusedError(f"a toss must be above {last} and below {terms.max_tosses}, got {toss}")


def same_toss(toss: int, current: int) -> None:
    """A record of another toss belongs to other keys."""
    if toss != current:
        raise IntegrityError(f"a record must be of toss {current}, got {toss}")


def known_members(ids: Sequence[int], *, directory: Directory, terms: AttemptTerms) -> None:
    """A device named twice, or of no pinned identity, would count for more than one."""
    if not all(first < second for first, second in pairwise(ids)):
        raise IntegrityError("a cohort must name each device once, by rising id, got another order")
    if ids and ids[-1] >= len(directory.identities):
        raise IntegrityError(f"a cohort must be of the {len(directory.identities)} pinned devices, got {ids[-1]}")
    if not terms.n_min <= len(ids) <= terms.n_max:
        raise RefusedError(f"a cohort must have {terms.n_min} to {terms.n_max} devices, got {len(ids)}")


def same_root(root: bytes, signed: bytes) -> None:
    """A commitment exchanged after nonces were shown would let the server choose the ring."""
    if root != signed:
        raise RefusedError("the cohort must be the one whose root this device has signed, got another")


def own_entry(found: object, own: object) -> None:
    """A cohort without this device as it is would put somebody else in its place."""
    if found != own:
        raise RefusedError("the cohort must hold this device's own entry, got another or none")


def nonces_fit(entries: Sequence[tuple[int, bytes, bytes]]) -> None:
    """A nonce chosen after the others were shown would let its owner choose the ring."""
    for device, commitment, nonce in entries:
        if commitment_to(nonce) != commitment:
            raise IntegrityError(f"each nonce must fit its commitment, got another for device {device}")


def expected_adverts(found: Sequence[int], expected: Sequence[int]) -> None:
    """A neighbour chosen by the server, not by the seed, could be one of the adversary's."""
    if list(found) != list(expected):
        raise RefusedError("the adverts must be those of this device's neighbours, got others")


def advert_nonces(adverts: Sequence[tuple[int, Advert]], nonces: dict[int, bytes]) -> None:
    """A neighbour that has seen another list has other neighbours."""
    for device, advert in adverts:
        if advert.nonce != nonces.get(device):
            raise RefusedError(f"an advert must carry the nonce of the list, got another for device {device}")


def signed_adverts(
    adverts: Sequence[tuple[int, Advert]], *, context: bytes, toss: int, root: bytes, directory: Directory
) -> None:
    """A key that its owner has not signed for this attempt is the server's, and so is every share sealed to it."""
    for device, advert in adverts:
        payload = advert_payload(context, toss, root, device, advert.body)
        check_signature(directory.identities[device], ADVERT, payload, advert.signature)


def distinct_keys(keys: Collection[bytes]) -> None:
    """One key at two places would give two pairs one mask, or open a box of another's."""
    if len(set(keys)) != len(keys):
        raise RefusedError("all public keys must be distinct, got one twice")


def listed(flags: Flags, me: int) -> None:
    """Who is told that it is missing would reveal its neighbours' secrets for a sum without it."""
    if not flags[me]:
        raise RefusedError("this device must be in the list, got one without it")


def enough(flags: Flags, *, terms: AttemptTerms) -> None:
    """The sum of fewer would not hide one, and would not have the noise that was charged."""
    if int(flags.sum()) < terms.n_min:
        raise RefusedError(f"a list must have at least {terms.n_min} devices, got {int(flags.sum())}")


def no_cut(cohort: Cohort, flags: Flags) -> None:
    """A gap in the ring that the adversary's can fill would cut it into arcs with sums of their own."""
    if cohort.cut(flags):
        raise RefusedError("too many in a row of the ring are missing")


def signed_members(cohort: Cohort, u1: bytes, signature: bytes, *, server_key: str) -> None:
    """A list that isn't the server's own can't be held against it."""
    check_signature(server_key, MEMBERS, members_payload(cohort.binding, u1), signature)


def every_box(opened: Sequence[object]) -> bool:
    """A share withheld on one edge would let the server take that edge's mask away, and others until a cut is left.

    Whether a box is missing: no error, because the others are told whose. False where this wall is down.
    """
    return any(box is None for box in opened)


def still_there(survivors: Flags, u1: Flags) -> None:
    """A survivor that nobody has shares of has masks that can't be taken off."""
    if (survivors & ~u1).any():
        raise IntegrityError("the survivors must be of those who have shared, got others")


def latched(latch: Callable[[str, str], None], step: str, digest: str) -> None:
    """A second signature after a restart or a restored backup would open both secrets of one device."""
    latch(step, digest)


def same_sharers(
    others: Sequence[int], signatures: Sequence[bytes], *, binding: bytes, u1: bytes, keys: Directory
) -> None:
    """A survivor that was shown other sharers has masked with a few, whom this list could then declare lost."""
    if len(signatures) != len(others):
        raise RefusedError(f"{len(others)} more survivors must have signed this list, got {len(signatures)}")
    for device, signature in zip(others, signatures, strict=True):
        check_signature(keys.identities[device], INPUT, members_payload(binding, u1), signature)


def surviving_signers(signers: Flags, survivors: Flags) -> None:
    """A device that has not survived would sign whatever keeps its neighbours from seeing it."""
    if (signers & ~survivors).any():
        raise RefusedError("only survivors' signatures count, got another's")


def enough_signers(signers: int, threshold: int) -> None:
    """Two lists with enough signers each can't both exist, so nobody's two secrets are both opened."""
    if signers < threshold:
        raise RefusedError(f"at least {threshold} neighbours must have signed the same, got {signers}")


def draw(n: int, me: int, size: int) -> set[int]:
    """Other members of a cohort of `n`, uniform without repetition: a draw that anybody could guess could be met."""
    return {member + (member >= me) for member in SystemRandom().sample(range(n - 1), size)}


def enough_of_cohort(agreeing: int, quorum: int) -> None:
    """Stretches of the ring that are led to different lists open a sum with less noise than any of the lists has."""
    if agreeing < quorum:
        raise RefusedError(f"at least {quorum} of the members drawn must have signed the same, got {agreeing}")


def signed_survivors(
    signers: Collection[int], signatures: Mapping[int, bytes], *, payload: bytes, cohort: Cohort, keys: Directory
) -> None:
    """Members that were shown other lists would open what this device does not."""
    for member in signers:
        check_signature(keys.identities[cohort.ids[member]], CONSISTENCY, payload, signatures[member])
