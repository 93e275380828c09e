"""Ctrl-C while other processes work. Stage: executors. Must not know: what they do."""

from __future__ import annotations

import contextlib
import signal
import threading


@contextlib.contextmanager
def one_interrupt():
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
