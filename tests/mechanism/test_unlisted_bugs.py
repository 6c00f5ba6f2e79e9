"""Bugs that are on no list of mutants: the quick battery finds them all the same, by the test that is named."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from palate_audit.run.structure import structural

from palate_audit.evidence.evidence import Verdict, judge
from palate_client.ledger.ledger_file import LedgerFile
from palate_client.rounds import contribution
from palate_common.models.model import GlobalModel
from palate_common.rounds import shares, wire
from palate_core.noise import randomness
from palate_server.rounds import aggregation
from palate_sim.engines.device_totals import DeviceTotals

SQUARES, KEYSTREAM = shares.squares, randomness._Keystream


def unchecked(data: bytes, *, grid: int) -> wire.DecodedContribution:
    header, payload = wire.split(data)
    return wire._read(header, payload, wire.dtype_for(header.users, grid))


def any_model(self: Any, plan: Any, data: bytes) -> GlobalModel:
    return GlobalModel.from_bytes(data)


BUGS = [
    ("K", "a key of 32 random bits", randomness, "_Keystream", lambda key: KEYSTREAM(key[:4] + bytes(28))),
    ("I", "a node that hosts 7 devices adds the noise of 5", shares, "squares", lambda n: SQUARES(n)[:2]),
    ("F", "the server takes a node's word for its norm", aggregation, "decode", unchecked),
    ("F", "the server sums answers to other attempts", aggregation, "_check_attempt", lambda *_: None),
    ("G", "devices have no floors", contribution, "check_floors", lambda *_, **__: None),
    ("G", "devices have no limits", DeviceTotals, "affords", lambda self, rows, mu2: np.ones(len(rows), np.bool_)),
    ("G", "devices answer twice", DeviceTotals, "reached", lambda *_: False),
    ("G", "devices take another ledger for the one they know", LedgerFile, "seen_checkpoint", lambda *_: None),
    ("G", "devices train on whatever model comes", contribution.Contributor, "_read_model", any_model),
]


@pytest.mark.parametrize(
    ("letter", "what", "owner", "name", "instead"),
    # One of each letter here, the others in `make soak`; all of F and G, which take longest: mutants of both are tried
    # anyway.
    [
        pytest.param(*bug, id=bug[1], marks=[pytest.mark.soak] * (bug[0] in {*"FG", *(b[0] for b in BUGS[:place])}))
        for place, bug in enumerate(BUGS)
    ],
)
def test_it_is_found(letter: str, what: str, owner: Any, name: str, instead: Any) -> None:
    with mock.patch.object(owner, name, instead):
        found = judge(structural(quick=True, letters=(letter,)))
    assert [each.test for each in found if each.verdict is Verdict.ALARM], what
