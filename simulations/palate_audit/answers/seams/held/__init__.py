"""What a device holds: made-up cases at its store, its journal, what it downloads, and what it leaves behind."""
