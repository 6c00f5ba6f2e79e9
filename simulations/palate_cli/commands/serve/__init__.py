"""`palate serve`: commands to run a server."""

from palate_cli.commands.serve.group import app

__all__ = ["app"]
