"""Bugs that are on no list of mutants: the battery finds them all the same, by the checks that are named."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

from mechanism.battery import group
from palate_audit.evidence.evidence import Verdict, judge
from palate_client.rounds import contribution
from palate_common.models.model import GlobalModel
from palate_common.rounds import shares, wire
from palate_core.device import participation as core_participation
from palate_core.device.ledger import SeenStates
from palate_core.noise import randomness
from palate_server.rounds import aggregation
from palate_sim.engines.ledger.device_totals import DeviceTotals

SQUARES, KEYSTREAM = shares.squares, randomness._Keystream


def unchecked(data: bytes, *, grid: int) -> wire.DecodedContribution:
    header, payload = wire.split(data)
    return wire._read(header, payload, wire.dtype_for(header.users, grid))


def any_model(self: Any, plan: Any, data: bytes) -> GlobalModel:
    return GlobalModel.from_bytes(data)


BUGS = [
    ("keystreams", "a key of 32 random bits", randomness, "_Keystream", lambda key: KEYSTREAM(key[:4] + bytes(28))),
    ("idle rounds", "a node that hosts 7 devices adds the noise of 5", shares, "squares", lambda n: SQUARES(n)[:2]),
    ("counting", "the server takes a node's word for its norm", aggregation, "decode", unchecked),
    ("counting", "the server sums answers to other attempts", aggregation, "_check_attempt", lambda *_: None),
    ("ledgers", "devices have no floors", core_participation, "check_floors", lambda *_, **__: None),
    (
        "ledgers",
        "devices have no limits",
        DeviceTotals,
        "affords",
        lambda self, rows, mu2: np.ones(len(rows), np.bool_),
    ),
    ("ledgers", "devices answer twice", DeviceTotals, "reached", lambda *_: False),
    ("ledgers", "devices take another ledger for the one they know", SeenStates, "seen_checkpoint", lambda *_: None),
    ("ledgers", "devices train on whatever model comes", contribution.Contributor, "_read_model", any_model),
]


@pytest.mark.parametrize(
    ("checks", "what", "owner", "name", "instead"),
    # One of each group here, the others in `make soak`; all of two, which take longest: mutants of both are tried
    # anyway.
    [
        pytest.param(
            *bug,
            id=bug[1],
            marks=[pytest.mark.soak] * (bug[0] in {"counting", "ledgers", *(b[0] for b in BUGS[:place])}),
        )
        for place, bug in enumerate(BUGS)
    ],
)
def test_it_is_found(checks: str, what: str, owner: Any, name: str, instead: Any) -> None:
    with mock.patch.object(owner, name, instead):
        found = judge(group(checks, quick=True))
    assert [each.test for each in found if each.verdict is Verdict.ALARM], what
