"""Schema: the tables of a device's ledger, apart from it: an app that only recommends loads no ledger."""

SEEN = "CREATE TABLE seen(population TEXT PRIMARY KEY, size INTEGER NOT NULL, root TEXT NOT NULL, signed BLOB NOT NULL)"
SCHEMA = (
    "CREATE TABLE charges(seq INTEGER PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " plan_hash TEXT NOT NULL, mu2 REAL NOT NULL, n_bytes INTEGER NOT NULL, time REAL NOT NULL, trust TEXT NOT NULL,"
    " purpose TEXT NOT NULL, UNIQUE(run, round, attempt))",
    "CREATE TABLE latches(run TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, step TEXT NOT NULL,"
    " digest TEXT NOT NULL, PRIMARY KEY(run, round, attempt, step)) WITHOUT ROWID",
    SEEN,
)
"""The tables of a device's ledger."""
