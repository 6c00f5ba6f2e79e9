"""The server folder: configuration, enrolment, certificates, events and backups of an operator."""
