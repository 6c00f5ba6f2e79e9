"""The population's privacy ledger, kept by the operator, and the extract of it that a run carries."""
