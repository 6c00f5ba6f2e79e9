"""The server folder: what an operator keeps, its configuration, backups and who may take part."""
