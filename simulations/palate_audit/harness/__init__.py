"""The harness: the production path with an auditor's devices in it, watched at every place where something leaves."""
