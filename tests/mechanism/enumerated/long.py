"""Real lengths: what small cases can't reach, because a size stands in the code as a number.

- **Whole rounds** with more than 2^18 numbers, in the clear, with the devices' noise, and under masks: what each node
  sends, or each device masks, and what is released, number by number, against the reference's sums and the noise that
  it makes of the recorded words.
- **Noise** of more than 2^19 numbers, by the server and by two devices.
- **Nodes** of more than 2^14 users, and a node's answer: sums of every kind of block, against the sums of parts so
  small that nothing cuts them. Catalogues of more than 2^17 items, against those of their few items that somebody has.
- **Words**: masks, packed numbers and messages of more than 2^18 numbers, against a cipher and plain bits.

**Assumes:** a length from which code goes another way is below these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from mechanism.enumerated.noises import ROADS, SIGMA, differs, plan_of
from mechanism.harness.probe_algorithm import Gesture
from mechanism.harness.probe_run import Setting, crowd, probe_run
from mechanism.harness.recording import RecordedSource, Recording, recorded
from mechanism.harness.watched_run import WatchedRun
from palate_audit.evidence.evidence import Finding
from palate_client.rounds import contribution
from palate_common.interactions import Interactions
from palate_common.mechanism.pairs import PairBlock
from palate_common.mechanism.update import Block, DenseBlock, Int64, OuterBlock, Update, whole_direction
from palate_common.rounds.wire import decode, decode_share
from palate_core.layout import DUMMIES, BlockSpec
from palate_core.masks import masking, packing
from palate_core.plan import Noise, RoundPlan
from palate_core.privacy_mode import DISTRIBUTED
from reference.long_noise import Taken, long_gaussian, long_shares
from reference.message import summed_up

TEST = "lengths"
LONG, LONGER = 2**18 + 3, 2**19 + 3
MANY, PART = 2**14 + 37, 97
"""Users of a node, and of a part that nothing cuts."""
ITEMS, BUYERS = 2**17 + 37, 300
"""Items of a catalogue whose numbers have more than 16 bits, and its users."""
GRID = 2**14
SETTINGS: Mapping[str, Setting] = {
    "central": Setting(width=LONG, noise=Noise.SECURE, users_per_node=2),
    "distributed": Setting(width=LONG, noise=Noise.SECURE, users_per_node=2, mode=DISTRIBUTED),
    "masks": Setting(width=LONG, noise=Noise.SECURE, users_per_node=1, mode=DISTRIBUTED, masks=True),
}
QUICK = ("central",)


def long_results(*, quick: bool = False) -> list[Finding]:
    """Whole rounds, noise, nodes and words; `quick` leaves out some of the rounds."""
    checks: dict[str, Callable[[], Iterator[str]]] = {
        f"a round, {name}": lambda setting=setting: _round(setting)  # type: ignore[misc]
        for name, setting in SETTINGS.items()
        if not quick or name in QUICK
    }
    checks |= {"sums of many users": _sums, "words": _words}
    checks |= {} if quick else {"noise": _noise, "a node of many users": _node}
    found = []
    for name, check in checks.items():
        try:
            wrong = next(check(), "")
        except Exception as error:
            wrong = f"it must be possible, got {type(error).__name__}: {error}"
        found.append(Finding.checked(f"{TEST}: {name}", not wrong, wrong or "the same numbers"))
    return found


def _round(setting: Setting) -> Iterator[str]:
    """A round of long vectors."""
    rng = np.random.default_rng(4)
    script = [Gesture(plain=rng.normal(size=LONG) / 200), Gesture(plain=np.eye(1, LONG, LONG - 1)[0] * 9)]
    acts = [[0], [1], [], [0, 1], []]
    with recorded() as seen, probe_run(setting, crowd(acts, n_items=2), script) as stage:
        algorithm, state = stage.coordinator.model.algorithm, stage.coordinator.model.state
        stage.play()
        plan, sources = stage.seen.plans[-1].plan, iter(seen.sources)
        summed, shown = np.zeros(sum(spec.size for spec in plan.layout) + DUMMIES, np.int64), _shown(stage, plan, seen)
        for node, first in enumerate(range(0, len(acts), setting.users_per_node)):
            mine = stage.histories.users(slice(first, first + setting.users_per_node))
            clipped = summed_up(algorithm, state, plan, mine, at_once=mine.n_users)
            expected = np.array([*clipped, *[0] * DUMMIES], np.int64)
            if setting.mode.noised_by_devices:
                expected += _drawn(next(sources, None), len(expected), plan.share_sigma, mine.n_users)
            yield from _not(f"node {node}", shown[node], expected)
            summed += expected
        if not setting.mode.noised_by_devices:
            summed += _drawn(next(sources, None), len(summed), plan.sigma, 1)
        yield from _not("the release", stage.sealed(plan.round, plan.attempt), summed)


def _shown(stage: WatchedRun, plan: RoundPlan, seen: Recording) -> Mapping[int, Int64]:
    """What each node sent, or its device masked; zeros where the server's dummies will be."""
    if stage.directory_of is not None:
        return {device: steps for _, device, steps in seen.vectors}
    answers = {node: each[0] or b"" for (_, _, node), each in stage.seen.replies.items()}
    if plan.mode.noised_by_devices:
        return {node: decode_share(each, bits=plan.bits(1)).total for node, each in answers.items()}
    dummies = np.zeros(DUMMIES, np.int64)
    return {node: np.concatenate([decode(each, grid=plan.grid).total, dummies]) for node, each in answers.items()}


def _drawn(source: RecordedSource | None, size: int, sigma: int, devices: int) -> Int64:
    """The reference's noise of a source's words, all of which it takes; zeros if there is none."""
    words = Taken(np.zeros(0, np.uint64) if source is None else source.words)
    if source is None or not source.secure:
        return np.zeros(size, np.int64)
    noise = long_gaussian(words, size, sigma) if devices == 1 else long_shares(words, size, sigma, devices)
    return noise if not words.left else np.zeros(size, np.int64)


def _not(what: str, found: Int64, expected: Int64) -> Iterator[str]:
    """Where numbers aren't those that are right."""
    if len(found) != len(expected):
        yield f"{what} has {len(found):,} numbers, {len(expected):,} are right"
        return
    places = np.flatnonzero(found != expected)
    if len(places):
        yield f"{what} has {len(places):,} of {len(found):,} numbers, from {places[0]:,} on, that are other ones"


def _noise() -> Iterator[str]:
    """Noise alone, as long as a large catalogue's."""
    layout = (BlockSpec(name="a", shape=(LONGER - DUMMIES,), weight=1.0),)
    for road, users in ((ROADS[0], 3), (ROADS[1], 2)):
        yield from differs(road, np.zeros(LONGER - DUMMIES, np.int64), users, plan_of(road, sigma=SIGMA, layout=layout))


@dataclass(frozen=True)
class _Sparse:
    """Rows of many users: a few of many rows each, or many of few."""

    indptr: Int64
    indices: npt.NDArray[np.int32]
    amounts: npt.NDArray[np.float64]
    rows: int

    @classmethod
    def of(cls, rng: np.random.Generator, *, rows: int, most: int, users: int = MANY) -> _Sparse:
        """Up to so many rows of each user."""
        few = rows < 64
        taken = rng.random((users, rows)).argsort(axis=1)[:, :most] if few else rng.integers(0, rows, (users, most))
        sets = [np.unique(each[: rng.integers(0, most + 1)]) for each in taken]
        indptr = np.cumsum([0, *map(len, sets)]).astype(np.int64)
        at = np.concatenate(sets).astype(np.int32)
        return cls(indptr, at, rng.normal(size=len(at)), rows)

    def block(self, columns: npt.NDArray[np.float64] | None) -> Block:
        """Products with the columns, or pairs."""
        if columns is None:
            return PairBlock(self.indptr, self.indices, self.amounts, self.rows)
        return OuterBlock(self.indptr, self.indices, self.amounts, columns, self.rows)


def _sums() -> Iterator[str]:
    """Sums of every kind of block over many users, and over small parts of them."""
    rng = np.random.default_rng(6)
    few, full = _Sparse.of(rng, rows=400, most=3), _Sparse.of(rng, rows=24, most=20)
    wide, narrow = rng.normal(size=(MANY, 3)), rng.normal(size=(MANY, 1))
    blocks: dict[str, Block] = {
        "dense": DenseBlock(rng.normal(size=(MANY, 67))),
        "of few rows": few.block(wide),
        "of most rows": full.block(wide),
        "of one column": few.block(narrow),
        "pairs": full.block(None),
    }
    centred = full.block(wide)
    if isinstance(centred, OuterBlock):
        along = whole_direction(np.arange(1.0, 25.0), grid=GRID)
        blocks["centred"] = replace(centred, along=along, shift=rng.normal(size=MANY) / along.max())
    for kind, block in blocks.items():
        layout = (BlockSpec(name=kind, shape=block.shape[1:], weight=1.0),)
        parts = [_clipped(_users(block, first), layout) for first in range(0, block.shape[0], PART)]
        yield from _not(f"the sum of blocks {kind}", _clipped(block, layout), np.sum(parts, axis=0))
    yield from _numbered(_Sparse.of(rng, rows=ITEMS, most=20, users=BUYERS), rng)


def _numbered(long: _Sparse, rng: np.random.Generator) -> Iterator[str]:
    """Of a large catalogue, the sums of the items that somebody has, which are those that they have by themselves."""
    held, renamed = np.unique(long.indices, return_inverse=True)
    alone = replace(long, indices=renamed.astype(np.int32), rows=len(held))
    for width in (3, 1):
        columns = rng.normal(size=(BUYERS, width))
        found, expected = (
            _clipped(each.block(columns), (BlockSpec(name="many", shape=(each.rows, width), weight=1.0),))
            for each in (long, alone)
        )
        placed = np.zeros((ITEMS, width), np.int64)
        placed[held] = expected.reshape(-1, width)
        yield from _not(f"the sum of {ITEMS:,} items, {width} wide,", found, placed.ravel())


def _users(block: Block, first: int) -> Block:
    """The next few users of a block."""
    some = slice(first, first + PART)
    if isinstance(block, DenseBlock):
        return DenseBlock(block.values[some])
    indptr = block.indptr[first : first + PART + 1]
    entries = slice(int(indptr[0]), int(indptr[-1]))
    part = replace(block, indptr=indptr - indptr[0], indices=block.indices[entries], rows=block.rows[entries])
    if isinstance(part, PairBlock):
        return part
    return replace(part, columns=part.columns[some], shift=None if part.shift is None else part.shift[some])


def _clipped(block: Block, layout: tuple[BlockSpec, ...]) -> Int64:
    """The sum; the clip is looked up where the path looks it up."""
    update = Update((block,), block.shape[0])
    total: Int64 = vars(contribution)["clip"](update, layout, clip_norm=1.0, grid=GRID).total()
    return total


def _node() -> Iterator[str]:
    """The answer of a node with many users."""
    rng = np.random.default_rng(8)
    script = [Gesture(plain=rng.normal(size=6), rows=rng.normal(size=4), column=rng.normal(size=4)) for _ in range(5)]
    items = rng.integers(0, 5, MANY)
    histories = Interactions.from_pairs(np.arange(MANY), items, n_users=MANY, n_items=5)
    with probe_run(Setting(users_per_node=MANY), histories, script) as stage:
        algorithm, state = stage.coordinator.model.algorithm, stage.coordinator.model.state
        stage.play()
        plan = stage.seen.plans[-1].plan
        each = [
            np.array(summed_up(algorithm, state, plan, histories.user(int(user)), at_once=1), np.int64)
            for user in (np.flatnonzero(items == item)[0] for item in range(5))
        ]
        expected = np.bincount(items, minlength=5) @ np.array(each)
        (answers,) = stage.seen.replies.values()
        yield from _not("its answer", decode(answers[0] or b"", grid=plan.grid).total, expected)


def _words() -> Iterator[str]:
    """Masks, packed numbers and messages."""
    rng, key = np.random.default_rng(9), bytes(range(32))
    for bits in (27, 41):
        masker = masking.Masker(LONG, bits)
        values: Any = rng.integers(0, 2**bits, LONG).astype(masker.dtype)
        masked = values.copy()
        masker.add(masked, key)
        stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(values.nbytes))
        mask = np.frombuffer(stream, masker.dtype.newbyteorder("<"))
        yield from _not(f"a mask of {bits} bits", (masked - values).astype(np.int64), mask.astype(np.int64))
        packed = packing.pack(masked, bits)
        octets = masked.astype(masked.dtype.newbyteorder("<")).view(np.uint8).reshape(LONG, -1)
        plain = np.packbits(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits], bitorder="little").tobytes()
        if packed != plain:
            yield f"packed numbers of {bits} bits are other bytes than their bits"
        summed = packing.PackedSum(LONG, bits)
        for _ in range(9):
            summed.add(packed)
        nine = (masked * masked.dtype.type(9)) & masked.dtype.type(2**bits - 1)
        yield from _not(f"nine packed rows of {bits} bits", summed.values().astype(np.int64), nine.astype(np.int64))
