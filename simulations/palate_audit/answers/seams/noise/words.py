"""Words: random words, the noise that is drawn from them, and numbers of devices as squares."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np

from palate_audit.answers.answer import CaseAnswer
from palate_audit.answers.dice import Dice
from palate_audit.answers.seam import Seam
from palate_common.rounds import shares
from palate_core.noise import discrete_gaussian, randomness
from palate_core.noise.discrete_gaussian import sample_discrete_gaussian
from palate_core.noise.randomness import SecureSource, SeededSource

TOP = 2**64 - 1


class OddWords:
    """A source whose words are even, or for a while such as hardly ever come: then tails are far, and draws repeat."""

    secure = False

    def __init__(self, dice: Dice, options: Sequence[int], share: float) -> None:
        self._dice, self._options, self._share = dice, options, share
        self.asked = list[int]()

    def words(self, n: int) -> Any:
        """The next `n`."""
        self.asked.append(n)
        odd = np.resize(np.array(self._options, np.uint64), n)
        if self._share == 1:
            return odd
        even = self._dice.wholes(-(2**62), 2**62, n).astype(np.uint64) * np.uint64(5) + np.uint64(7)
        return np.where(even % np.uint64(97) < 97 * self._share, odd, even)


class _BarrenWords:
    """A source from which no candidate is kept: each is a zero below zero."""

    secure = False

    def words(self, n: int) -> Any:
        """The next `n`."""
        return np.full(n, TOP if n <= 2 else 3 * 2**62, np.uint64)


def _drawn(dice: Dice, answer: CaseAnswer) -> None:
    """Noise of every size and number, from words of every kind; and what is refused."""
    sigma = dice.one_of((1, 2, 3, 7, 64, 2**14, 2**20 + 1, 2**30, dice.whole(1, 2**30)))
    n = dice.one_of((0, 1, 2, 3, 10, dice.whole(1, 40)))
    words = OddWords(dice, dice.one_of(((2**62,), (0, TOP), (2**62, 2**60, 1), (TOP, TOP - 1, 2**63), (2**61,))),
                   dice.one_of((0.0, 0.0, 0.2, 0.4, 0.6)))  # fmt: skip
    patience = dice.one_of((9, 16, 17, 20, 32, 40, 256))
    with mock.patch.multiple(discrete_gaussian, _CHUNK=dice.one_of((64, 70, 2**16)), _PATIENCE=patience):
        answer.of(sample_discrete_gaussian, n, sigma=sigma, source=words)
        answer.tell(words.asked)
        answer.of(sample_discrete_gaussian, 5, sigma=sigma, source=OddWords(dice, (dice.one_of((0, 2**62, TOP)),), 1.0))
    odd: tuple[Any, ...] = (-1, True, 1.0, "1", None, np.int64(3), 2**48 + 1, 0)
    for wrong, name in zip(dice.some_of(odd), dice.shuffled(("n", "sigma") * 4), strict=False):
        answer.of(sample_discrete_gaussian, **({"n": 1, "sigma": 2} | {name: wrong}), source=SeededSource(b"x"))
    answer.of(sample_discrete_gaussian, dice.whole(0, 9), sigma=1, source=_BarrenWords())
    told = {"n": 1, "sigma": 2**30 + dice.whole(0, 1)}
    answer.of(sample_discrete_gaussian, **told, source=SeededSource(b"x"))


def _drawing(dice: Dice, answer: CaseAnswer) -> None:
    """What drawing is made of, far in the tails too."""
    sigma = dice.one_of((1, 2, 3, 64, 2**30 - 1, 2**30, dice.whole(1, 2**30)))
    laps = np.concatenate([dice.wholes(0, 3, 4), dice.wholes(0, 256, 4), [1, 0, 256]]).astype(np.uint64)
    offset = np.concatenate([dice.wholes(0, sigma - 1, 8), [0, sigma - 1, sigma - 1]]).astype(np.uint64)
    answer.tell(discrete_gaussian._exponent(offset, laps, sigma))
    words = OddWords(dice, (0, 1, 2**62, 2**63, TOP, TOP - 1), dice.one_of((0.1, 0.9)))
    limit = dice.one_of((2**63, TOP, 2**61 * 7, dice.whole(2**63, TOP)))
    answer.of(discrete_gaussian._words_below, dice.whole(0, 9), limit, words)
    answer.tell(discrete_gaussian._bits(dice.one_of((0, 1, 63, 64, 65, 130)), words))
    answer.of(
        discrete_gaussian._exp_minus,
        np.array([0, 1, sigma], np.uint64),
        sigma,
        OddWords(dice, (2 ** dice.whole(0, 40),), 0.5),
    )
    answer.of(discrete_gaussian._geometric, 9, OddWords(dice, (2**62, 2**40), 0.7))
    answer.of(discrete_gaussian._exp_minus_one, 9, OddWords(dice, (2 ** dice.whole(20, 50), 0), 0.8))
    stuck = OddWords(dice, (dice.one_of((0, TOP, 2**62)),), 1.0)
    for patience, call in ((9, discrete_gaussian._geometric), (12, discrete_gaussian._exp_minus_one)):
        with mock.patch.object(discrete_gaussian, "_PATIENCE", patience):
            answer.of(call, 2, stuck)
            answer.of(discrete_gaussian._exp_minus, np.array([4, 5], np.uint64), 5, stuck)
            answer.of(
                discrete_gaussian._one_in,
                patience,
                3,
                OddWords(dice, (0, TOP, TOP // patience - 1, TOP // patience), 0.9),
            )
    answer.of(discrete_gaussian._words_below, 2, 2**63 + 1, stuck)
    for run in (0, 1, 256, 257):
        answer.of(discrete_gaussian._refuse_stuck, run)
    answer.tell(words.asked, stuck.asked)


def _sources(dice: Dice, answer: CaseAnswer) -> None:
    """Random words: of several sources in turn, in blocks of any size, over a fork; none is copied."""
    made: dict[str, Any] = {}
    with mock.patch.object(randomness, "_ZEROS", memoryview(bytes(dice.one_of((16, 48, 1 << 20))))):
        for _ in range(8):
            name = dice.one_of(("secure", "other", "seeded", "same", "long"))
            if name not in made or dice.chance(0.1):
                seeds = {"seeded": b"one", "same": b"one", "long": dice.bytes(dice.one_of((1, 32, 33, 200)))}
                made[name] = SeededSource(seeds[name]) if name in seeds else SecureSource()
            source = made[name]
            answer.tell(source.secure)
            answer.of(source.words, dice.one_of((0, 1, 2, 3, 5, 17, np.int64(4), dice.whole(0, 40))))
            if dice.chance(0.2):
                with mock.patch.object(os, "getpid", return_value=-1):
                    answer.of(source.words, 2)
            if dice.chance(0.2):
                before = randomness._forks
                randomness._count_fork()
                answer.tell(randomness._forks - before)
            answer.of(source.words, dice.one_of((-1, True, 1.0, None, 1)))
        words = source.words(2)
        words[:] = 0  # they are the caller's
        answer.tell(source.words(2))
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        answer.of(copied, source)
    for seed in (b"", "text", None, bytearray(b"x")):
        answer.tried(SeededSource, seed)


def _squares(dice: Dice, answer: CaseAnswer) -> None:
    """Numbers of devices as few squares."""
    four = 4 ** dice.whole(0, 6) * (8 * dice.whole(0, 20) + 7)
    for number in (
        *(dice.whole(0, 999) for _ in range(6)),
        dice.whole(-3, 3),
        dice.whole(0, 60),
        dice.whole(1, 20_011),
        four,
        four + dice.whole(-1, 1),
        dice.whole(1, 99) ** 2,
    ):
        answer.of(shares.squares, number)


SEAMS = (
    Seam("noise: every size, from words of every kind", _drawn, 30),
    Seam("noise: what drawing is made of", _drawing, 18),
    Seam("random words: of several sources in turn", _sources, 30),
    Seam("numbers of devices as squares", _squares, 18),
)
