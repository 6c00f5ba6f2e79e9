"""Counted: tests of what a mechanism released, each with a p-value under the claim."""
