"""Device: what stands between a plan and a device's answer: its floors, and its side of a masked attempt."""
