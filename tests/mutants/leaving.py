"""Mutants of leaving: a statement that says too little, and models that are said to be others."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

from mutants.mutant import mutant, rows
from palate_client.leaving import later_models


@mutant(
    "another ledger's model taken",
    bug="a model is compared with a statement without a proof that their ledgers are one",
    seen="two signatures by the right key, over states that nobody compares",
    test="ledgers",
)
def of_another_ledger() -> Iterator[None]:
    with mock.patch.object(later_models, "check_pinned"), mock.patch.object(later_models, "check_growth"):
        yield


rows(
    __name__,
    """
an attempt left out of a statement | ledgers
bug: of several attempts at a round, a statement lists the last one alone
seen: one line a round, where a round that was tried again has two
@ palate_client.leaving.statement:_rounds
- return tuple(found)
+ return tuple({(each.run, each.round): each for each in found}.values())

half the cost in a statement's bound | ledgers
bug: what anybody can still tell is computed from half of mu^2
seen: a bound per side of a pair, of which there are two
@ palate_client.leaving.statement:_most
- math.sqrt(mu2)
+ math.sqrt(mu2 / 2)

an earlier model taken for a later one | ledgers
bug: each model of the ledger counts as one of after the device left
seen: a proof that two states are of one ledger, without a look at which came first
@ palate_client.leaving.later_models:_one_ledger
- return False
+ return True

an attempt without a receipt overlooked | ledgers
bug: an attempt of which the device has lost the receipt is in no later model
seen: one of two ways to find a thing left out, as the other one always found it
@ palate_client.leaving.later_models:_place
- return (mine.run,
+ return False and (mine.run,
""",
)
