"""A child of the test's process, for what must not go on in two."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def in_child(work: Callable[[], bytes]) -> bytes:
    """What `work()`, run in a real fork, returns as bytes."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on, forking beside the test runner's threads warns; the child only writes and leaves.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(write, work())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        got = pipe.read()
    os.waitpid(child, 0)
    return got
