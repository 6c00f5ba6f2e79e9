"""Records on disk: databases, locks, durable files, key files, tiles of a log."""
