"""The store: one encrypted folder per device, with the key, the events and other files."""
