"""Flower: every touch of it on the server's side."""
