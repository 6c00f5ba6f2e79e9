"""Models: what is released, as it is published, downloaded and checked."""
