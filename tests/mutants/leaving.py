"""Mutants of leaving: a statement that says too little, and models that are said to be others."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

from mutants.mutant import mutant
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
