"""Studies: many runs for one question."""
