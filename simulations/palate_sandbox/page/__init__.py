"""The sandbox's page: what the operator may know beside the truth, one person's own page, and the switch."""
