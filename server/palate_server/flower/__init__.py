"""Flower: the only modules of the server that use Flower."""
