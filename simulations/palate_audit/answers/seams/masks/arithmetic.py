"""Arithmetic of masks: residues as bits, keystreams, shares of secrets, graphs and their numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.secagg import graph, graph_terms, masking, packing, shamir, transcript
from palate_common.secagg.cohort import Cohort
from palate_common.secagg.transcript import AttemptTerms
from palate_server.secagg import recovery

NO_WIDTHS: tuple[Any, ...] = (0, -1, 65, True, 8.0)
"""What is no width of a residue, or no number of members."""


@contextmanager
def lowered(*, largest: int, failure: float, abort: float, tosses: float = 0.0) -> Iterator[None]:
    """Rings of few members: other bounds, no chance's own, and none too small for a ring."""
    graph_terms.graph_terms.cache_clear()
    try:
        with (
            mock.patch.object(graph_terms, "LARGEST_COMPLETE", largest),
            mock.patch.object(transcript, "LARGEST_COMPLETE", largest),
            mock.patch.object(graph_terms, "FAILURE", failure),
            mock.patch.object(graph_terms, "ABORT", abort),
            mock.patch.object(graph_terms, "_TOSS_BITS", tosses),
        ):
            yield
    finally:
        graph_terms.graph_terms.cache_clear()


def _residues(dice: Dice, bits: int, size: int) -> packing.Residues:
    """Words with all their bits, not only the lower ones."""
    kind = np.dtype(np.uint32 if bits <= 32 else np.uint64)
    values: packing.Residues = np.frombuffer(dice.bytes(size * kind.itemsize), kind).copy()
    return values


def _packed(dice: Dice, answer: CaseAnswer) -> None:
    """Rows of any width, some at a time, and rows that aren't."""
    bits, step = dice.whole(1, 64), dice.one_of((packing._STEP, 64, 130))
    columns, some = 64 if bits > 32 else 32, dice.whole(1, 40)
    size = dice.one_of((0, 1, 7, 8, columns - 1, columns, columns + 1, 2 * columns, 2 * columns + 3, some))
    with mock.patch.object(packing, "_STEP", step):
        rows = [packing.pack(_residues(dice, bits, size), bits) for _ in range(dice.one_of((0, 1, 2, 7, 8, 9)))]
        answer.tell(rows, packing.packed_bytes(size, bits))
        total, stop = packing.PackedSum(size, bits), dice.whole(0, len(rows))
        for place, row in enumerate(rows):
            answer.of(total.add, memoryview(row) if dice.chance(0.3) else row)
            if place == stop:
                padded = row[:-1] + bytes([row[-1] ^ 128]) if row else b"\0"
                answer.of(total.add, dice.one_of((padded, memoryview(padded))))
                answer.of(total.add, dice.one_of((row[:-1], row + b"\0", b"")))
                answer.tell(total.values())
        whole = total.values()
        answer.tell(whole)
        whole[:] = 1
        answer.tell(total.values())
        for row in rows[:1]:
            answer.of(packing.unpack, row, size, bits)
            answer.of(packing.unpack, row, abs(size + dice.one_of((-1, 1))), bits)
    _no_rows(dice, answer)


def _no_rows(dice: Dice, answer: CaseAnswer) -> None:
    """What isn't packed."""
    bits = dice.one_of((1, 31, 32, 33, 64))
    values = _residues(dice, bits, 6)
    wrong: tuple[Any, ...] = (values.astype(np.int64), values.reshape(2, 3), values.astype(np.uint32), values[::2])
    for each in wrong:
        answer.of(packing.pack, each, bits)
    for width in NO_WIDTHS:
        answer.of(packing.packed_bytes, 5, 7)
        answer.tell(isinstance(answer.tried(packing.residue_type, width), np.dtype))
    answer.tell([recovery._centred(_residues(dice, width, 3), width) for width in (1, 63, 64, dice.whole(2, 62))])
    answer.tell([packing.residue_type(width).str for width in (1, 32, 33, 64)])


def _masked(dice: Dice, answer: CaseAnswer) -> None:
    """Masks that come and go, one by one and together, on rows that take one step of the cipher, and several."""
    bits, step = dice.one_of((1, 24, 31, 32, 33, 48, 63, 64)), dice.one_of((masking._STEP, 64, 64, 96, 160))
    some, words = dice.whole(1, 60), step // (4 if bits <= 32 else 8)
    near = dice.one_of((words, words + 1, 2 * words, 2 * words + 1, 3 * words + 1, 3 * words + 1))
    size = dice.one_of((1, 3, 4, 5, some, near, near))
    with mock.patch.object(masking, "_STEP", step):
        masker, keys = masking.Masker(size, bits), [dice.bytes(32) for _ in range(3)]
        total: Any = np.resize(_residues(dice, bits, min(size, 64)), size)
        for _ in range(4):
            key = dice.one_of(keys)
            match dice.whole(0, 2):
                case 0:
                    answer.of(masker.add, total, key)
                case 1:
                    answer.of(masker.subtract, total, key)
                case _:
                    answer.of(masker.apply, total, added=dice.some_of(keys), subtracted=dice.some_of(keys))
            answer.tell(total)
        wrong: tuple[Any, ...] = (
            total[:-1], total.reshape(1, -1), total.astype(np.int64), total.astype(np.uint8),
            np.repeat(total, 2)[::2] if size > 1 else total[:0], total,
        )  # fmt: skip
        key = keys[0][:-1] if dice.chance(0.5) else keys[0] + b"\0"
        for each in wrong:
            answer.of(masker.add, each, keys[0] if each is not total else key)
        answer.of(masker.apply, total, added=keys[:1], subtracted=[b""])
        answer.tell(total, masker.size, masker.dtype.str)
    for other, width in ((0, bits), (-1, bits), (True, bits), (2.0, bits), (1, 0), (1, 65), (3, bits)):
        answer.tell(isinstance(answer.tried(masking.Masker, other, width), masking.Masker))


def _split(dice: Dice, answer: CaseAnswer) -> None:
    """Secrets in both fields: of every threshold, from all that is needed, and from less."""
    total = dice.one_of((2, 3, 4, 5, 7, 8, 15, 16, 17, 18, 33, 254, 255, 256, 257))
    threshold = dice.one_of((2, 2, min(3, total), (total + 1) // 2 + 1, max(2, total - 1), total))
    threshold = min(threshold, total, 40 if dice.chance(0.8) else total)
    size = dice.one_of((1, 2, 7, 8, 9, 32, 64))
    asked, urandom = list[int](), os.urandom

    def counted(n: int) -> bytes:
        asked.append(n)
        return urandom(n)

    with mock.patch.object(os, "urandom", counted):
        shares = answer.of(shamir.split, dice.bytes(size), shares=total, threshold=threshold)
    for n, t in ((total, 1), (total, total + 1), (1, 2), (2**16, 2)):
        answer.of(shamir.split, bytes(2), shares=n, threshold=t)
    answer.of(shamir.split, b"", shares=total, threshold=threshold)
    if shares is None:
        return
    indices = dice.shuffled(range(1, total + 1))
    for count in (threshold, threshold - 1, min(total, threshold + 1), 1):
        chosen = indices[:count]
        answer.of(shamir.combine, chosen, shares[np.array(chosen) - 1], total=total)
    _no_shares(dice, answer, shares, indices[:2])
    wrong, places = shares.copy(), sorted(indices[: min(total, threshold + dice.whole(0, 7))])
    for index in dice.shuffled(places)[: max(0, (len(places) - threshold) // 2 + dice.whole(-2, 1))]:
        wrong[index - 1] ^= np.uint8(dice.whole(1, 255))
    rows = wrong[np.array(places) - 1]
    with mock.patch.object(os, "urandom", counted):
        answer.of(shamir.misfits, places, rows, threshold=threshold, total=total)
    answer.tell(asked)


def _no_shares(dice: Dice, answer: CaseAnswer, shares: shamir.Shares, two: list[int]) -> None:
    """Shares and indices that aren't."""
    total = len(shares)
    for indices in ([two[0], two[0]], [0, two[0]], [two[0], total + 1], [[two[0]], [two[1]]], two[:1], []):
        answer.of(shamir.combine, indices, shares[: len(indices)], total=total)
    wrong: tuple[Any, ...] = (shares[:1], shares[:2].astype(np.int64), shares[0], shares[:2, :0], shares[:2, :1])
    for rows in wrong:
        answer.of(shamir.combine, two, rows, total=total)
    for other in (1, 2, 255, 256, 2**16 - 1, 2**16):
        answer.of(shamir.combine, [1, 2], shares[:2], total=other)


def _together(dice: Dice, answer: CaseAnswer) -> None:
    """Many secrets at once, each from shares of its own."""
    total, size = dice.one_of((2, 3, 5, 9, 17, 255, 256)), dice.one_of((1, 2, 6, 8, 10, 32))
    sets = dice.one_of((0, 1, 2, 15, 16, 17, 33)) if total < 100 else dice.one_of((1, 2, 17))
    held = dice.wholes(0, 2, sets * total).reshape(sets, total) > 0
    held[:, : 1 + dice.chance(0.8)] = True
    shares = np.frombuffer(dice.bytes(min(4000, sets * total * size)) or b"\0", np.uint8)
    shares = np.resize(shares, (sets, total, size))
    answer.of(shamir.combine_all, held, shares)
    if sets:
        least = held.copy()
        least[-1] = np.arange(total) < dice.whole(0, 2)
        answer.of(shamir.combine_all, least, shares)
    wrong: tuple[tuple[Any, Any], ...] = (
        (held.astype(np.uint8), shares), (held[0] if sets else held[:, 0], shares), (held[:, :1], shares[:, :1]),
        (held, shares.astype(np.int16)), (held, shares[:, :, 0]), (held[:, :-1], shares), (held, shares[:, :, :0]),
    )  # fmt: skip
    for one, other in wrong:
        answer.of(shamir.combine_all, one, other)


def _ring(dice: Dice, answer: CaseAnswer) -> None:
    """A ring: who is whose neighbour, at which place, and where too many in a row are missing."""
    n = dice.one_of((3, 4, 5, 6, 9, 12, 13, 40))
    ring = graph.Ring.from_seed(dice.bytes(32), n)
    answer.tell(ring.order, ring.position, len(ring))
    k = 2 * dice.whole(1, max(1, (n - 1) // 2))
    for other in (k, 0, 1, 3, n - 1, n, n + 1, -2, True, 2.0):
        answer.of(ring.table, other)
        answer.of(ring.neighbours, dice.whole(0, n - 1), other)
    for member in (0, n - 1, n, -1):
        answer.of(ring.neighbours, member, k)
    for _ in range(6):
        alive = dice.wholes(0, 3, n) > dice.whole(0, 1)
        answer.of(ring.gaps, alive, dice.whole(1, n), dice.whole(0, 3))
    for window in (0, 1, n, n + 1):
        answer.of(ring.gaps, np.arange(n) != dice.whole(0, n - 1), window, 1)
    wrong: tuple[Any, ...] = (np.ones(n, np.int8), np.ones(n + 1, np.bool_), np.ones((1, n), np.bool_))
    for each in wrong:
        answer.of(ring.gaps, each, 1, 1)
    for length, members in ((31, n), (33, n), (32, 2), (32, 0), (32, True), (32, 4.0)):
        made = answer.tried(graph.Ring.from_seed, bytes(length), members)
        answer.tell(isinstance(made, graph.Ring))
    words = [dice.wholes(0, 3, 5).astype(np.uint64) for _ in range(dice.whole(0, 3))]
    draws = iter([*words, np.array([3, 2**63, 0, 2**64 - 1, 5], np.uint64)])
    answer.tell(graph._sorted_draw(lambda: next(draws)))


def _complete(dice: Dice, answer: CaseAnswer) -> None:
    """A complete graph, and what it has no neighbours for."""
    n = dice.whole(3, 12)
    whole = graph.Complete(n)
    answer.tell(len(whole))
    for k in (n - 1, n - 2, n):
        answer.of(whole.table, k)
        answer.of(whole.neighbours, dice.whole(0, n - 1), k)
    for member in (0, 1, n - 1, n, -1):
        answer.of(whole.neighbours, member, n - 1)
    wrong: tuple[Any, ...] = (2, 3, True, 3.0)
    for members in wrong:
        answer.of(graph.Complete, members)


def _numbers(dice: Dice, answer: CaseAnswer) -> None:
    """The numbers of graphs by size and losses; below the limit and above it, and for bounds of every strength."""
    bounds = dice.one_of((None, None, None, (5, 20.1, 10.1), (5, -2.1, -1.1), (8, -10.1, -5.1), (8, -20.1, -20.1)))
    if bounds is None:
        n = dice.one_of((3, 4, 9, 10, 100, 249, 250, 251, 252, 300, 400, 640))
        _graphs(dice, answer, n, most=n // 8 + 2)
        answer.of(graph_terms.graph_terms, dice.one_of((250, 251)), corrupt=9, dropped=9)
        return
    largest, failure, abort = bounds
    with lowered(largest=largest, failure=failure, abort=abort, tosses=dice.one_of((0.0, 4.0))):
        _graphs(dice, answer, dice.one_of((largest, largest + 1, 12, 16, 24, 48, 90)), most=6)


def _graphs(dice: Dice, answer: CaseAnswer, n: int, *, most: int) -> None:
    """Graphs of one size."""
    corrupt, dropped = dice.whole(0, most), dice.whole(0, most)
    for one, other in ((corrupt, dropped), (dropped, corrupt), (corrupt, 0), (corrupt, dropped)):
        answer.of(graph_terms.graph_terms, n, corrupt=one, dropped=other)
    name, wrong = dice.one_of(("n", "corrupt", "dropped")), dice.one_of((-1, 0, 2, n + 1, True, 1.0))
    given: dict[str, Any] = {"n": n, "corrupt": corrupt, "dropped": dropped, name: wrong}
    answer.of(graph_terms.graph_terms, given.pop("n"), **given)


def _cohorts(dice: Dice, answer: CaseAnswer) -> None:
    """Cohorts: members, neighbours, slots, and whether so many are missing that the ring is cut."""
    ring = dice.chance(0.6)
    n, corrupt = (dice.whole(10, 20), dice.whole(1, 2)) if ring else (dice.whole(3, 12), 1)
    ids = sorted(set(dice.wholes(0, 3 * n, 2 * n).tolist()))[:n]
    n_min = max(corrupt + 2, len(ids) - dice.whole(0, 2))
    with lowered(largest=9 if ring else 250, failure=dice.one_of((-2.1, 2.1, 8.1)), abort=dice.one_of((-1.1, 10.1))):
        terms = AttemptTerms(
            context=dice.bytes(32), size=1, bits=8, n_max=max(n, n_min), n_min=n_min, c_max=corrupt, directory="ab" * 32
        )
        nonces = [dice.bytes(32) for _ in ids] if ring else []
        cohort = answer.tried(Cohort, terms, toss=dice.whole(0, 300), ids=ids, root=dice.bytes(32), nonces=nonces)
        if not isinstance(cohort, Cohort):
            return
    answer.tell(len(cohort), cohort.ids, cohort.root, cohort.binding)
    answer.tell(cohort.degree, cohort.threshold, cohort.sample, cohort.quorum, cohort.table(), cohort.slot_table())
    answer.tell([cohort.member(device) for device in (-1, 0, *ids[:2], ids[-1], ids[-1] + 1, dice.whole(0, 3 * n))])
    member = dice.whole(0, len(ids) - 1)
    answer.tell(cohort.neighbours(member), cohort.slots(member))
    for _ in range(6):
        alive, gone = np.ones(len(ids), np.bool_), dice.whole(0, len(ids))
        order = np.arange(len(ids)) if cohort._ring is None else cohort._ring.order
        alive[np.roll(order, -gone)[: dice.whole(0, cohort.degree)]] = False
        answer.tell(cohort.cut(alive))


SEAMS = (
    Seam("packing: rows of every width and their sums", _packed, 30),
    Seam("masking: keystreams added and taken away", _masked, 30),
    Seam("shares: split, combined, and wrong ones", _split, 30),
    Seam("shares: many secrets at once", _together, 24),
    Seam("graphs: rings", _ring, 24),
    Seam("graphs: complete ones", _complete, 12),
    Seam("graphs: their numbers", _numbers, 30),
    Seam("graphs: cohorts", _cohorts, 30),
)
