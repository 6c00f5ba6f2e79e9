"""Mutants: known bugs of private learning, grouped by kind; a named test of the battery must find each one."""

from palate_audit.mutants.mutant import Mutant

from palate_audit.mutants import (
    accounting,
    aggregation,
    blocks,
    clipping,
    device,
    draws,
    leaving,
    ledger,
    local,
    noise,
    randomness,
    rare,
    release,
    remembered,
    secagg,
    units,
    verdicts,
    witnesses,
)

GROUPS: dict[str, tuple[Mutant, ...]] = {
    "clipping": clipping.MUTANTS,
    "blocks": blocks.MUTANTS,
    "units": units.MUTANTS,
    "noise": noise.MUTANTS,
    "draws": draws.MUTANTS,
    "randomness": randomness.MUTANTS,
    "accounting": accounting.MUTANTS,
    "ledger": ledger.MUTANTS,
    "aggregation": aggregation.MUTANTS,
    "secagg": secagg.MUTANTS,
    "release": release.MUTANTS,
    "local": local.MUTANTS,
    "device": device.MUTANTS,
    "witnesses": witnesses.MUTANTS,
    "leaving": leaving.MUTANTS,
    "remembered": remembered.MUTANTS,
    "verdicts": verdicts.MUTANTS,
    "rare": rare.MUTANTS,
}
"""Every mutant, by group."""

MUTANTS: tuple[Mutant, ...] = tuple(each for group in GROUPS.values() for each in group)

__all__ = ["GROUPS", "MUTANTS", "Mutant"]
