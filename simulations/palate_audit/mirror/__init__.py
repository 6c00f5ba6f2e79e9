"""A ledger's mirror, audited by whoever can fetch it."""
