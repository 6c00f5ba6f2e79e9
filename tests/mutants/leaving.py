"""Mutants of leaving: a statement that says too little."""

from __future__ import annotations

from mutants.mutant import rows

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
""",
)
