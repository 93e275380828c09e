"""An iterator that runs on a thread of its own, some items ahead. Stage: train, beneath the loader.

The thread ends with the iterator, with an exception, or when the owner closes; it holds nothing of its owner's. An exception
of the iterator comes out where the next item is asked for, with the traceback of where it happened.
Must not know: what the items are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import warn

#: seconds that closing waits for an item that is being made
CLOSE_LIMIT_S = 10.0
#: seconds after which a waiting owner looks whether Ctrl-C has come; no system interrupts a wait without end
LOOK_S = 0.5


class Prefetch:
    """Items of an iterator, made ahead. Use as a context manager, or call `close`.

    Args:
        make: gives the iterator; called on the thread.
        ahead: items that may be ready at once; 0: no thread, each is made when it is asked for.

    Attributes:
        waited_s: seconds that the owner has waited for items.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], ahead: int):
        self.waited_s = 0.0
        self._state = _State(max(1, ahead))
        self._direct: Iterator[Any] | None = None
        self._thread: threading.Thread | None = None
        if ahead:
            self._thread = threading.Thread(target=_work, args=(make, self._state), name="parnet-data", daemon=True)
            self._thread.start()
        else:
            self._direct = make()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begun = time.perf_counter()
        try:
            return next(self._direct) if self._direct is not None else self._state.take()
        finally:
            self.waited_s += time.perf_counter() - begun

    def close(self) -> None:
        """End the thread; items that are ready are dropped. May be called twice."""
        if isinstance(self._direct, Iterator) and hasattr(self._direct, "close"):
            self._direct.close()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._state.stop()
        thread.join(CLOSE_LIMIT_S)
        if thread.is_alive():
            warn(
                f"data: the iterator has been making an item for more than {CLOSE_LIMIT_S:.0f} s; its thread ends when that "
                "item is done"
            )

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _State:
    """What thread and owner share."""

    def __init__(self, ahead: int):
        self.ahead, self.items = ahead, deque[Any]()
        self.changed = threading.Condition()
        self.stopped = self.ended = False
        self.error: BaseException | None = None

    def put(self, item: Any) -> bool:
        """From the thread: hand an item over. Returns False when no more are wanted."""
        with self.changed:
            while len(self.items) >= self.ahead and not self.stopped:
                self.changed.wait()
            self.items.append(item)
            self.changed.notify_all()
            return not self.stopped

    def end(self, error: BaseException | None) -> None:
        """From the thread: that was all."""
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def take(self) -> Any:
        """From the owner: the next item. Raises StopIteration, or what the iterator raised."""
        with self.changed:
            while not self.items and not self.ended:
                self.changed.wait(LOOK_S)
            if self.items:
                item = self.items.popleft()
                self.changed.notify_all()
                return item
            error, self.error = self.error, None
        if error is not None:
            raise error
        raise StopIteration

    def stop(self) -> None:
        """From the owner: no more are wanted."""
        with self.changed:
            self.stopped = True
            self.items.clear()
            self.changed.notify_all()


def _work(make: Callable[[], Iterator[Any]], state: _State) -> None:
    """The thread's life."""
    error: BaseException | None = None
    iterator: Iterator[Any] = iter(())
    try:
        iterator = make()
        for item in iterator:
            wanted = state.put(item)
            del item
            if not wanted:
                break
    except BaseException as raised:
        error = raised
    finally:
        try:
            if hasattr(iterator, "close"):
                iterator.close()
        except BaseException as raised:
            error = error or raised
        state.end(error)
