"""The audit: evidence about a run folder, about the deployed mechanism, or about somebody else's.

    ledger     what was charged, sealed and claimed, replayed and recomputed
    mechanism  a battery of tests that drives the production round with canaries
    mutants    the same battery against code that was broken on purpose
    attacks    what an attacker gets out of updates and releases, beside the claimed ceiling

Every part returns `Section`s of `Finding`s and `Bound`s (`palate_audit.evidence.evidence`); one report shows them.
"""
