"""The device for hosts in other languages, by JSON over loopback."""
