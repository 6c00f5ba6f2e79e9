"""A person's own history: files that services hand out, read on the device, previewed, stored and undone as a whole."""
