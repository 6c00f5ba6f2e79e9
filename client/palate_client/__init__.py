"""The device: what runs on a user's machine, within the app that embeds it."""
