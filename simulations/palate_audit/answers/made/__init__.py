"""Made: what several seams are played with: devices, ledgers, runs, server folders, and who is on the other side."""
