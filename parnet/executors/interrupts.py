"""Ctrl-C while other processes or a GPU work: what they do must be left between two batches, not anywhere. Stage: executors.

Must not know: processes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[list[tuple[int, FrameType | None]]]:
    """No Ctrl-C is heard within: for what takes a moment, and would leave processes or weights in disorder if half done.

    Yields a list that is no longer empty once it has been pressed; whoever handled it before hears of it at the end.
    """
    pressed: list[tuple[int, FrameType | None]] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return
    signal.signal(signal.SIGINT, lambda *what: pressed.append(what))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
        for what in pressed:
            before(*what)
