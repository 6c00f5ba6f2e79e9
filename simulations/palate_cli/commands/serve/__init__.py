"""`palate serve`: a server for months, from a shell."""

from palate_cli.commands.serve.group import app

__all__ = ["app"]
