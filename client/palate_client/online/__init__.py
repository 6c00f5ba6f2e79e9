"""Online: how a device connects to its server, enrols, downloads models and takes part in rounds, in bounded time."""
