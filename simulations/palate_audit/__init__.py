"""The audit: evidence about a run folder, about the deployed mechanism, or about somebody else's.

    result = palate_audit.audit(mechanism, epsilon=3.0, delta=1e-6)
    result.verdict, result.epsilon, result.findings

Its parts:

    ledger     what was charged, sealed and claimed, replayed and recomputed
    mechanism  a battery of tests that drives a mechanism with canaries, by default the production round
    attacks    what an attacker learns from updates and releases, compared with the claimed ceiling

Every part returns `Section`s of `Finding`s and `Bound`s; one report shows them. `__all__` lists the public names;
`audit` and its result need heavy libraries, so they are imported at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from palate_audit.evidence.evidence import Bound, Finding, Rung, Section, Verdict
from palate_audit.harness.claim import Claim, ReleaseClaim
from palate_audit.harness.target import Contributions, Released, Target

if TYPE_CHECKING:
    from palate_audit.auditing import AuditResult, audit

_LATER = {"AuditResult": "palate_audit.auditing", "audit": "palate_audit.auditing"}
"""Name -> the module that defines it."""

__all__ = [
    "AuditResult",
    "Bound",
    "Claim",
    "Contributions",
    "Finding",
    "ReleaseClaim",
    "Released",
    "Rung",
    "Section",
    "Target",
    "Verdict",
    "audit",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__() -> list[str]:
        """List the public names, for completion in an editor."""
        return sorted({*globals(), *_LATER})
