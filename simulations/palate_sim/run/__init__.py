"""One simulated run, from its configuration to its folder."""
