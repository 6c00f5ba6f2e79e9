"""The devices' door: where they wait for messages and leave their answers."""
