"""A witness of logs: a small process that cosigns what only ever grew, for populations of other people."""
