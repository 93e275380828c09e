"""Ctrl-C while other processes work: they must be left between two batches, not anywhere. Stage: executors.

Must not know: processes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def one_interrupt() -> Iterator[list[int]]:
    """The first Ctrl-C is heard when the run is over, the second at once. Yields a list that the first is put into."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not (
        signal.default_int_handler
    ):
        yield []
        return
    heard: list[int] = []

    def hear(number, frame):
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if heard:
        raise KeyboardInterrupt
