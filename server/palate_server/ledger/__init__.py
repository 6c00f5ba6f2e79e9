"""The population's privacy ledger, which the operator keeps, and the extract for a run's folder."""
