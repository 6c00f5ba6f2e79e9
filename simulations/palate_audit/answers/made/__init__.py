"""Made: what several seams are played with: clocks, keys, folders, stores, and who is on a device's other side."""
