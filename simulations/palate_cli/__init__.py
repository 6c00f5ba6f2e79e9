"""The command line `palate`; installs with any extra, and each command names the one that it needs."""
