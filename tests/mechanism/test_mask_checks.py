"""Secrets, graphs and bindings of masked attempts: what each check looks at, and that a broken version is found."""

from __future__ import annotations

import os
import random
from fractions import Fraction
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mechanism.checks.masks import bindings, graphs, keystreams
from mechanism.secagg.attacks import small_rings, stretches_of_their_own
from mechanism.secagg.cohort import MaskedCohort
from mechanism.secagg.watching import Watch, watched
from palate_core.device import attempt
from palate_core.layout import BlockSpec
from palate_core.log.entries import SealEntry
from palate_core.masks import ring_cohort as cohort
from palate_core.masks import shamir, transcript
from palate_core.masks.graph_terms import graph_terms
from palate_core.masks.messages import Step
from reference.shamir import polynomial


def ring() -> Watch:
    """What devices of a ring draw and sign, up to a draw among all members."""
    with watched() as seen, small_rings():
        stretches_of_their_own()
    return seen


def test_watching_changes_nothing_and_ends() -> None:
    before = (os.urandom, vars(random)["_urandom"], X25519PrivateKey.generate, vars(attempt)["split"])
    with watched() as seen:
        world = MaskedCohort(5, n_min=4)
        server = world.run()
    assert server.total.tolist() == world.vectors.sum(axis=0).tolist()
    assert before == (os.urandom, vars(random)["_urandom"], X25519PrivateKey.generate, vars(attempt)["split"])
    shared = [call for call in seen.calls if call.step is Step.SHARE]
    assert [len(call.splits) for call in shared] == [1] * 5
    assert {len(call.added) + len(call.subtracted) for call in seen.calls if call.step is Step.INPUT} == {5}


def test_the_polynomial_of_shares_is_the_one_they_were_made_with() -> None:
    for shares, threshold, bits in ((5, 3, 8), (255, 4, 8), (256, 3, 16)):
        dealt = shamir.split(b"sixteen bytes it", shares=shares, threshold=threshold)
        rows = {at + 1: dealt[at].tobytes() for at in range(threshold + 1)}
        found = polynomial(rows, bits=bits)
        assert found[0] == b"sixteen bytes it"
        assert found[threshold] == bytes(16)  # one share more than needed adds nothing


def test_tails_are_those_of_counting() -> None:
    assert graphs.tail(5, 2, 2, 1) == Fraction(7, 10)
    assert graphs.tail(5, 2, 2, 0) == 1
    assert graphs.tail(5, 2, 2, 3) == 0


@pytest.mark.parametrize("less", ["corrupt", "threshold", "window"])
def test_a_graph_that_the_proof_does_not_cover_is_found(monkeypatch: pytest.MonkeyPatch, less: str) -> None:
    from dataclasses import replace

    def weaker(n: int, *, corrupt: int, dropped: int) -> Any:
        if less == "corrupt":
            return graph_terms(n, corrupt=max(1, corrupt - n // 60), dropped=dropped)
        found = graph_terms(n, corrupt=corrupt, dropped=dropped)
        if less == "threshold":
            return replace(found, threshold=found.threshold - 2)
        return found if found.complete else replace(found, window_corrupt=found.window_corrupt - 1)

    monkeypatch.setattr(cohort, "graph_terms", weaker)
    assert list(graphs.graphs()) != []


def test_every_field_is_changed() -> None:
    """Also those of a part, of a part of a list, and those that are left out of JSON where they say nothing."""
    block = BlockSpec(name="one", shape=(2, 3), weight=0.5)
    assert [name for name, _ in bindings.variants(block)] == ["name", "shape[0]", "shape[1]", "shape: fewer", "weight"]
    entry = SealEntry(seq=0, run="one", round=0, attempt=0, release_hash="ab" * 32)
    assert {name for name, _ in bindings.variants(entry)} == {"seq", "kind", "run", "round", "attempt", "release_hash"}


def test_an_argument_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(context: bytes, root: bytes, nonces: Any) -> bytes:
        return transcript.commitment_to(context + root)

    without.__module__ = transcript.__name__
    monkeypatch.setattr(transcript, "ring_seed", without)
    without.__annotations__ = {"context": bytes, "root": bytes, "nonces": transcript.Sequence[bytes], "return": bytes}
    assert list(bindings._transcripts()) == ["ring_seed gives the same bytes whatever `nonces` is"]


def test_a_keystream_that_begins_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(keystreams.keystreams()) == []
    monkeypatch.setattr(keystreams, "_mask", lambda key, size, kind: kind.type(0))
    assert len(list(keystreams.keystreams())) == 2 * len(keystreams.LENGTHS) + 2 * 3
