"""A node: the devices of a household, beside its media servers. See docs/node.md."""
