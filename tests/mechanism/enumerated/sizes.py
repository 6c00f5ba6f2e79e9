"""No size by which code cuts its work changes a result.

Code makes sums in chunks, takes a dense way or a sparse one, draws noise in batches, masks in steps. Each of these
sizes (`mechanism.enumerated.constants` finds them all) is lowered in the running process to a few tiny values: with
two other sizes, which are other rooms' (`--deep`: by itself), and with many. Small cases are made again, in which
lengths are often just at the cut:

- sums of made contributions, against the reference's;
- sums of every registered algorithm, against those before;
- noise of each road, against what the reference makes of the same words;
- masks, packing and shares of secrets, against a cipher and whole numbers of any length;
- answers of whole nodes.

Cases are the same in every audit and whole numbers are compared, so there is no chance in it.

**Assumes:** a size that stands in the code as a number, not under a name, is below those of
`mechanism.enumerated.long`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from mechanism.enumerated.constants import Constant, lowered, sizes
from mechanism.enumerated.noises import noises
from mechanism.enumerated.separability import QUICK, everybody, sums_of
from mechanism.enumerated.settings import cases, names, rounds
from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.mechanism.update import ClippedSum, ClippedUpdate, Int64
from palate_common.rounds.wire import decode_share
from palate_core.layout import DUMMIES
from palate_core.masks import masking, packing, shamir
from palate_core.noise_share import ClearSum
from palate_core.privacy_mode import DISTRIBUTED
from palate_server.secagg import decoding
from reference.cases import Case, of_all_lengths
from reference.cases import cases as made_cases
from reference.contribution import total

TEST = "sizes"
SEED = 23
VALUES = 3
"""A size is lowered to one of so many lowest values."""
AT_ONCE = 3
"""So many sizes of different rooms are lowered at once."""
TOGETHER, QUICK_TOGETHER = 8, 4
"""So often many are lowered together, every second one to one of these values."""
MADE, OF_EACH_KIND = 20, 1
"""Made cases, and rounds of each algorithm with each set of blocks, with weights and without."""
FAILING = (0, 1, 2, 7, 11)
"""Devices whose contribution isn't finite: of small parts all, of others some, and of another node."""
WORDS, BITS = 150, (20, 33)

Lowered = Mapping[Constant, int]
Say = Callable[[], Iterator[str]]
"""What isn't as it must be, one after the other."""


def sizes_alone(*, quick: bool = False, deep: bool = False) -> list[Finding]:
    """Every kind of result; `quick` lowers many sizes together only, `deep` each by itself."""
    tried = list(_lowerings(quick=quick, deep=deep))
    checks: dict[str, Callable[[], Say]] = {**CHECKS, "sums of algorithms": partial(_algorithms, quick=quick)}
    return [_unchanged(name, prepared(), tried) for name, prepared in checks.items()]


def _lowerings(*, quick: bool, deep: bool) -> Iterator[Lowered]:
    """Each size, with those that are a third of them away, which are other rooms'; and many together."""
    found, rng = sizes(), np.random.default_rng(SEED)
    apart = len(found) if deep else -(-len(found) // AT_ONCE)
    for place in range(apart if not quick else 0):
        yield {each: each.low(at % VALUES) for at, each in enumerate(found) if at % apart == place}
    half = np.zeros(len(found), np.bool_)
    for number in range(QUICK_TOGETHER if quick else TOGETHER):
        half = ~half if number % 2 else rng.random(len(found)) < 0.5  # so that each size is in one of two
        yield {each: each.low(int(rng.integers(VALUES))) for each, low in zip(found, half, strict=True) if low}


def _unchanged(name: str, check: Say, tried: list[Lowered]) -> Finding:
    """One kind of result, with every lowering."""
    wrong = next(check(), "")
    for values in tried:
        if wrong:
            break
        with lowered(values):
            said = next(_safely(check), "")
        if said:
            wrong = f"with {', '.join(f'{size} at {value}' for size, value in values.items())}: {said}"
    number = len({size for values in tried for size in values})
    return Finding.checked(f"{TEST}: {name}", not wrong, wrong or f"{number} sizes, {len(tried)} settings of them")


def _safely(check: Say) -> Iterator[str]:
    """What a check says, also if it can't be made."""
    try:
        yield from check()
    except Exception as error:
        yield f"it must be possible, got {type(error).__name__}: {error}"


def _sums() -> Say:
    """Sums of made contributions, against the reference's."""
    every = (*made_cases(MADE, seed=SEED), *of_all_lengths())
    expected = [total(each.update, each.layout, clip_norm=each.clip_norm, grid=each.grid) for each in every]
    return partial(_summed, list(zip(every, expected, strict=True)))


def _summed(made: list[tuple[Case, list[int]]]) -> Iterator[str]:
    clip = vars(contribution)["clip"]
    for case, expected in made:
        found = clip(case.update, case.layout, clip_norm=case.clip_norm, grid=case.grid).total().tolist()
        if wrong := sum(one != other for one, other in zip(found, expected, strict=True)):
            yield f"{wrong} of {len(expected)} numbers are not the reference's ({case.name})"


def _algorithms(*, quick: bool = False) -> Say:
    """Sums of algorithms, against those before: a few rounds with each set of blocks; `quick`: of test U's settings."""
    found, met = list[tuple[str, Callable[[], Int64], Int64]](), Counter[tuple[Any, ...]]()
    for name in names():
        for case in cases(name)[:: QUICK if quick else 1]:
            histories = case.histories()
            sums = sums_of(case, histories)
            for algorithm, stage in rounds(case, sums):
                kind = (name, case.weighted, stage.round == 0, *(spec.name for spec in stage.layout))
                met[kind] += 1
                if met[kind] <= OF_EACH_KIND:
                    again = partial(everybody, algorithm, stage, histories)
                    found.append((f"{case}, round {stage.round}", again, sums(algorithm, stage)))
    return partial(_as_before, found)


def _as_before(made: list[tuple[str, Callable[[], Int64], Int64]]) -> Iterator[str]:
    for name, again, expected in made:
        if wrong := int((again() != expected).sum()):
            yield f"{wrong} of {len(expected)} numbers are others than before ({name})"


def _masks() -> Say:
    """Masks, packed numbers and secrets."""
    return _masked


def _masked() -> Iterator[str]:
    """Masks are the cipher's, packed numbers are one long number, and secrets come back."""
    rng, key = np.random.default_rng(SEED), bytes(range(32))
    for bits in BITS:
        masker = masking.Masker(WORDS, bits)
        values: Any = rng.integers(0, 2**bits, WORDS).astype(masker.dtype)
        masked = values.copy()
        masker.add(masked, key)
        stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(values.nbytes))
        if (masked - values != np.frombuffer(stream, masker.dtype.newbyteorder("<"))).any():
            yield f"masks of {bits} bits are not the cipher's keystream"
        packed = packing.pack(masked, bits)
        long = sum((int(each) & (2**bits - 1)) << place * bits for place, each in enumerate(masked))
        if packed != long.to_bytes(-(-WORDS * bits // 8), "little"):
            yield f"packed numbers of {bits} bits are other bytes than one long number"
        summed = packing.PackedSum(WORDS, bits)
        for _ in range(11):
            summed.add(packed)
        if [(11 * int(each)) % 2**bits for each in masked] != summed.values().tolist():
            yield f"the sum of packed numbers of {bits} bits is another one"
    secrets = np.frombuffer(rng.bytes(32 * 19), np.uint8).reshape(19, 32)
    shares = np.array([shamir.split(each.tobytes(), shares=7, threshold=4) for each in secrets])
    held = np.array([[(place + row) % 7 < 4 for place in range(7)] for row in range(19)])
    if (decoding.combine_all(held, shares) != secrets).any():
        yield "secrets don't come back from their shares"


def _answers() -> list[list[int]]:
    """What nodes of eleven devices answer, some of which contribute what isn't finite; a share of noise counts 1."""
    rng = np.random.default_rng(SEED)
    script = [Gesture(plain=rng.normal(size=9), rows=rng.normal(size=4), pairs=rng.normal(size=3)) for _ in range(23)]
    for each in FAILING:
        script[each] = replace(script[each], plain=np.full(9, np.nan))

    def counted(clipped: ClippedUpdate | ClippedSum, charged: object, source: object) -> ClearSum:
        return ClearSum(np.pad(clipped.total(), (0, DUMMIES)) + clipped.users, clipped.users)

    setting = Setting(users_per_node=11, rounds=1, mode=DISTRIBUTED)
    with (
        mock.patch.object(contribution, "add_shares", counted),
        probe_run(setting, crowd([[each] for each in range(23)], n_items=23), script) as stage,
    ):
        stage.play()
        bits = stage.seen.plans[-1].plan.bits(setting.users_per_node)
        answers = [answers[0] or b"" for answers in stage.seen.replies.values()]
        return [decode_share(each, bits=bits).total.tolist() for each in answers]


def _nodes() -> Say:
    """Answers of nodes: their sums, and how many shares of noise they add, one for each of their users."""
    return partial(_answered, _answers())


def _answered(made: list[list[int]]) -> Iterator[str]:
    for node, (found, before) in enumerate(zip(_answers(), made, strict=True)):
        if found != before:
            yield f"node {node} answers other numbers, or with another number of shares of noise"


CHECKS: Mapping[str, Callable[[], Say]] = {
    "sums of made contributions": _sums,
    "sums of algorithms": _algorithms,
    "noise": lambda: noises,
    "masks and shares": _masks,
    "answers of nodes": _nodes,
}
