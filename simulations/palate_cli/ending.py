"""How a command that tidies up is ended: by the first signal, whichever it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from palate_common.system import ending_signals


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first of `ending_signals` end what runs here as Ctrl-C does, so that it cleans up.

    Further ones don't cut the tidying short. In the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [each for each in ending_signals() if signal.getsignal(each) != signal.SIG_IGN]

    def end(number: int, frame: object) -> None:
        for each in asked:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, end) for each in asked}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
