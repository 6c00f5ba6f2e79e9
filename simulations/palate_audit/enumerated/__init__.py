"""Enumerated: what must hold for every algorithm, setting, size, call and event there is; nobody lists them."""
