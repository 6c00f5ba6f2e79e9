"""Online: how a device reaches its server, enrols, downloads and takes part, in bounded time."""
