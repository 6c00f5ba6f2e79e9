"""Benchmarks, run from a checkout. Opacus installs a package of the same name: without this file it would hide ours."""
