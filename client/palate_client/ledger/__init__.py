"""The ledger of this device: what it took part in, what that cost, and what it relied on."""
