"""Mutants of what is remembered: acknowledged and not on the disk, replaced by less, or said of the wrong attempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

from mutants.mutant import mutant
from palate_core.log import consistency
from palate_server.witness.folder import State, WitnessFolder


@mutant(
    "a witness's state in memory",
    bug="a witness writes every second state only, and after a restart cosigns a fork of the others",
    seen="a write for each request of a busy log, which costs a sync",
    test="ledgers",
)
def unwritten() -> Iterator[None]:
    real_keep, real_state = WitnessFolder.keep, WitnessFolder.state
    kept: dict[tuple[int, str], State] = {}

    def keep(self: WitnessFolder, log: str, state: State) -> None:
        if state.number % 2:
            kept[id(self), log] = state
        else:
            real_keep(self, log, state)

    def state(self: WitnessFolder, log: str) -> State:
        return max(real_state(self, log), kept.get((id(self), log), State(origin="")), key=lambda each: each.number)

    with mock.patch.object(WitnessFolder, "keep", keep), mock.patch.object(WitnessFolder, "state", state):
        yield


@mutant(
    "a proof of inclusion kept for the next log",
    bug="an entry that was once proved to be in a ledger needs no proof in a later state, of whichever log",
    seen="proofs of the same restoration, which each plan and each model shows again",
    test="ledgers",
)
def kept_inclusion() -> Iterator[None]:
    real, known = vars(consistency)["verify_inclusion"], set[bytes]()

    def verify(leaf: bytes, **proof: Any) -> None:
        if leaf not in known:
            real(leaf, **proof)
            known.add(leaf)

    with mock.patch.object(consistency, "verify_inclusion", verify):
        yield
