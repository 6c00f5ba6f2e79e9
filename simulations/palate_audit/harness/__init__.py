"""The harness: the production path with an auditor's devices, observed wherever something leaves it."""
