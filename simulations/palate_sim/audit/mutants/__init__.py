"""Known bugs of private learning, each to be found by a named test of the battery; by the noun that they are bugs of."""

from palate_sim.audit.mutants import accounting, aggregation, clipping, ledger, noise, randomness, release, secagg
from palate_sim.audit.mutants.mutant import Mutant

GROUPS: dict[str, tuple[Mutant, ...]] = {
    "clipping": clipping.MUTANTS,
    "noise": noise.MUTANTS,
    "randomness": randomness.MUTANTS,
    "accounting": accounting.MUTANTS,
    "ledger": ledger.MUTANTS,
    "aggregation": aggregation.MUTANTS,
    "secagg": secagg.MUTANTS,
    "release": release.MUTANTS,
}
"""Every mutant, by group."""

MUTANTS: tuple[Mutant, ...] = tuple(each for group in GROUPS.values() for each in group)

__all__ = ["GROUPS", "MUTANTS", "Mutant"]
