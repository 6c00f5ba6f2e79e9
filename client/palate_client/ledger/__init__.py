"""The ledger of this device: rounds it took part in, what they cost, and what those costs rely on."""
