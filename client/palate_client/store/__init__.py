"""The store: one encrypted folder a device, with the key, the events and what goes with them."""
