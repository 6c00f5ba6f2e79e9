"""Targets: a function behind the audit's protocol. docs/examples/mechanisms/ has those of several libraries."""
