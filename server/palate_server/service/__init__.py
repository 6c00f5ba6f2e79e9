"""Service: the server's processes and network: supervisor, gateway, enrolment, metrics, setup."""
