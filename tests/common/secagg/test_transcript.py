"""What is signed and hashed tells every field apart, and terms out of range are refused."""

from __future__ import annotations

import itertools

import pytest

from palate_core.errors import InputError, IntegrityError
from palate_core.log.signing import SigningKey
from palate_core.masks.transcript import (
    ADVERT,
    COMMIT,
    AttemptTerms,
    advert_payload,
    box_aad,
    check_signature,
    cohort_binding,
    cohort_root,
    commit_payload,
    commitment_to,
    consistency_payload,
    members_payload,
    pair_info,
    ring_seed,
    sign,
)

A, B, C, D = (bytes([value]) * 32 for value in b"abcd")
RIGHT = {"context": A, "size": 3, "bits": 20, "n_max": 12, "n_min": 9, "c_max": 1, "directory": "ab" * 32}


@pytest.mark.parametrize(
    "calls",
    [
        [commit_payload(*row) for row in ((A, 0, 1, B), (C, 0, 1, B), (A, 1, 1, B), (A, 0, 2, B), (A, 0, 1, C))],
        [
            advert_payload(*row)
            for row in (
                (A, 0, B, 1, C),
                (D, 0, B, 1, C),
                (A, 1, B, 1, C),
                (A, 0, b"", 1, C),
                (A, 0, B, 2, C),
                (A, 0, B, 1, D),
            )
        ],
        [cohort_root(*row) for row in ((A, 0, B), (C, 0, B), (A, 1, B), (A, 0, C))],
        [ring_seed(*row) for row in ((A, B, [C, D]), (C, B, [C, D]), (A, A, [C, D]), (A, B, [D, C]), (A, B, []))],
        [cohort_binding(*row) for row in ((A, 0, B, C), (D, 0, B, C), (A, 1, B, C), (A, 0, D, C), (A, 0, B, D))],
        [consistency_payload(*row) for row in ((A, b"1", b"2"), (A, b"2", b"1"), (B, b"1", b"2"), (A, b"1", b"1"))],
        [members_payload(*row) for row in ((A, b"1"), (A, b"2"), (B, b"1"))],
        [box_aad(*row) for row in ((A, B, 1, 2), (C, B, 1, 2), (A, C, 1, 2), (A, B, 2, 1), (A, B, 1, 3))],
        [
            pair_info(*row)
            for row in (
                ("mask", A, 0, (1, B), (2, C)),
                ("share", A, 0, (1, B), (2, C)),
                ("mask", D, 0, (1, B), (2, C)),
                ("mask", A, 1, (1, B), (2, C)),
                ("mask", A, 0, (1, B), (3, C)),
                ("mask", A, 0, (1, C), (2, B)),
            )
        ],
        [commitment_to(A), commitment_to(B)],
    ],
)
def test_every_field_changes_the_bytes(calls: list[bytes]) -> None:
    assert len(set(calls)) == len(calls)


def test_a_signature_fits_one_key_tag_and_payload() -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = sign(key, COMMIT, A)
    assert len(signature) == 64
    check_signature(key.public, COMMIT, A, signature)
    wrong = itertools.chain(
        [(other.public, COMMIT, A, signature), (key.public, ADVERT, A, signature), (key.public, COMMIT, B, signature)],
        [(key.public, COMMIT, A, bad) for bad in (bytes(64), b"", signature + b"\0", signature[:-1])],
    )
    for case in wrong:
        with pytest.raises(IntegrityError):
            check_signature(*case)


@pytest.mark.parametrize(
    "change",
    [
        {"context": b"short"},
        {"context": "x" * 32},
        {"size": 0},
        {"bits": 0},
        {"bits": 65},
        {"bits": 20.0},
        {"n_max": 2},
        {"n_max": 2**20 + 1},
        {"n_min": 13},
        {"n_min": 2},
        {"c_max": 0},
        {"c_max": True},
        {"directory": "AB" * 32},
        {"directory": "ab"},
        {"max_tosses": 0},
        {"max_tosses": 1025},
    ],
)
def test_terms_out_of_range_are_refused(change: dict[str, object]) -> None:
    assert AttemptTerms(**RIGHT).bits == 20
    with pytest.raises(InputError, match=f"`{next(iter(change))}` must be"):
        AttemptTerms(**{**RIGHT, **change})


def test_a_ring_begins_above_250() -> None:
    assert [AttemptTerms(**{**RIGHT, "n_max": n}).committed for n in (12, 250, 251)] == [False, False, True]
