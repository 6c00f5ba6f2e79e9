"""The device for an event loop: every call is awaited, and none of them holds the loop."""
