"""Operating the server: configuration, enrolment, rounds by appointment, gateway, model registry, backups."""
