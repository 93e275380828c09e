"""Data brought to the engine piece by piece: what `fit`, `evaluate` and `predict` run through. Stage: train.

`Whole` is arrays in memory: one piece an epoch. `Stream` is a `DataLoader` of files or of a user's iterable: a thread reads,
converts and checks the next piece while the engine works on this one. The engine sees rows by their number in the data set,
or in the epoch of an iterable, so a stream gives the bits that the same rows in the same order give as arrays.
Must not know: callbacks, progress, executors.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .. import seeding
from ..errors import DataError, warn
from .data import kinds
from .loader import DataLoader, Window, bytes_of, split
from .prefetch import Prefetch

#: small batches of an iterable go to the engine together, up to so many bytes and, so that progress shows, seconds
TOGETHER_BYTES, TOGETHER_S = 4 << 20, 0.05
#: bytes of a page; looking at one number of each brings a file's window into memory
PAGE = 4096

#: makes Rows of (x, y, sample_weight, where for messages, whether the numbers of x are known to be finite)
Check = Callable[[Any, Any, Any, str, bool], "Rows"]


@dataclass
class Rows:
    """A checked set of samples: inputs, targets (rows, width) of T (None for an output without a loss), sample weights."""

    x: tuple[np.ndarray, ...]
    y: tuple[np.ndarray | None, ...]
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x[0])

    @property
    def arrays(self) -> tuple[np.ndarray | None, ...]:
        """All of them."""
        return (*self.x, *self.y, self.weight)

    def part(self, first: int, last: int) -> Rows:
        """Rows first..last, as views."""
        x = tuple(one[first:last] for one in self.x)
        y = tuple(None if one is None else one[first:last] for one in self.y)
        return Rows(x, y, None if self.weight is None else self.weight[first:last])


@dataclass
class Piece:
    """Some batches of an epoch that follow each other.

    Attributes:
        rows: the samples.
        batch: rows of a full batch; only the last batch of a piece may be smaller.
        total: rows that are run, of those there are.
        first_batch, first_row: numbers, in the epoch, of its first batch, and in the data set, of rows[0].
        order: numbers in the data set of the rows, in the order in which they come; None: as they lie.
        unchanged: vouches for rows, see `parnet.executors.base.Feed`; None where the next piece has others.
    """

    rows: Rows
    batch: int
    total: int
    first_batch: int = 0
    first_row: int = 0
    order: np.ndarray | None = None
    unchanged: object = None

    @property
    def batches(self) -> int:
        """Of the piece."""
        return -(-self.total // self.batch)

    @property
    def kind(self) -> tuple:
        """What a plan depends on."""
        return kinds(self.rows.x), self.rows.weight is not None

    def words(self, batch: int) -> dict[str, Any]:
        """Arguments of the Feed of a program whose full batch has so many rows."""
        place, order = self.first_batch * batch, self.order
        if order is None and place != self.first_row:  # rows are known by their number, not by their batch's
            order = np.arange(self.first_row, self.first_row + self.total)
        return {
            "x": self.rows.x,
            "y": self.rows.y,
            "weight": self.rows.weight,
            "total": place + self.total,
            "order": order,
            "first_row": self.first_row,
            "first_place": place,
            "first_batch": self.first_batch,
            "unchanged": self.unchanged,
        }


class Source(Protocol):
    """What `Whole` and `Stream` have in common.

    Attributes:
        samples, steps: rows and batches of an epoch, None where not known. batch: rows of a batch; of an iterable 1.
        waited_s: seconds that the engine has waited for data.
    """

    samples: int | None
    steps: int | None
    batch: int
    waited_s: float

    def peek(self, epoch: int) -> Piece | None:
        """The first piece of an epoch; None where there is none."""

    def pieces(self, epoch: int) -> Iterator[Piece]:
        """The pieces of an epoch."""

    def close(self) -> None:
        """End what runs; may be called twice."""


class Whole:
    """Arrays in memory.

    Args:
        rows: the samples.
        batch: rows of a batch.
        steps: batches of an epoch, None for all.
        seed: of a new order in each epoch, None for the order in which the rows lie.
    """

    waited_s = 0.0

    def __init__(self, rows: Rows, batch: int, steps: int | None = None, seed: int | None = None):
        self.rows, self.seed, self.batch = rows, seed, min(batch, max(1, len(rows)))
        self.steps: int | None = -(-len(rows) // self.batch) if steps is None else steps
        self.samples: int | None = min(len(rows), self.steps * self.batch)

    def peek(self, epoch: int) -> Piece | None:
        return Piece(self.rows, self.batch, self.samples or 0)

    def pieces(self, epoch: int) -> Iterator[Piece]:
        order = None if self.seed is None else seeding.shuffled(self.seed, epoch, len(self.rows))
        yield Piece(self.rows, self.batch, self.samples or 0, order=order, unchanged=self)

    def close(self) -> None:
        """Nothing runs."""


class Stream:
    """A loader's files or iterable.

    Args:
        loader: of more than arrays in memory.
        check: makes Rows of arrays.
        steps: batches of an epoch; None for a pass through all.
        where: for messages, "fit".
    """

    def __init__(self, loader: DataLoader, check: Check, steps: int | None, where: str):
        self.loader, self.where, self.waited_s = loader, where, 0.0
        self._check, self._limit = check, steps
        self.batch = 1 if loader.columns is None else loader.batch_size
        self.steps, self.samples = steps, loader.rows
        if loader.rows is not None:
            self.steps = min(len(loader), steps or len(loader))
            self.samples = min(loader.rows, self.steps * loader.batch_size)
        self._reader: Prefetch | None = None
        self._first: tuple[int, Piece | None] | None = None
        self._iterator: Iterator[Any] | None = None
        self._checked: set[int] = set()  # windows; looking for NaN in each pass cost a tenth of the training

    def peek(self, epoch: int) -> Piece | None:
        """Starts the thread; `pieces` goes on from there."""
        if self._first is None or self._first[0] != epoch:
            self.close()
            make = self._files if self.loader.columns is not None else self._batches
            self._reader = Prefetch(lambda: make(epoch), self.loader.prefetch)
            self._first = epoch, next(self._reader, None)
        return self._first[1]

    def pieces(self, epoch: int) -> Iterator[Piece]:
        piece, before_s = self.peek(epoch), self._reader.waited_s if self._reader else 0.0
        self._first = None
        try:
            while piece is not None:
                yield piece
                piece = next(self._reader, None) if self._reader else None
        finally:
            if self._reader is not None:
                self.waited_s += self._reader.waited_s - before_s
            self.close()

    def close(self) -> None:
        reader, self._reader, self._first = self._reader, None, None
        if reader is not None:
            reader.close()

    # -- on the thread --------------------------------------------------------------------------

    def _files(self, epoch: int) -> Iterator[Piece]:
        """The windows of a pass, checked and brought into memory."""
        loader, done = self.loader, 0
        for window in loader.windows(epoch):
            if done >= (self.steps or 0):
                return
            total = min(len(window), ((self.steps or 0) - done) * loader.batch_size)
            rows = self._read(window)
            yield Piece(rows, min(loader.batch_size, loader.rows or 1), total, done, window.first, window.order)
            done += -(-total // loader.batch_size)
            del rows

    def _read(self, window: Window) -> Rows:
        x, y, weight = self.loader.arrays(window)
        place = f"{self.where}: rows {window.first} to {window.last - 1}"
        rows = self._check(x, y, weight, place, window.first in self._checked)
        self._checked.add(window.first)
        for array in filter(_lies_in_a_file, rows.x):
            flat = array.reshape(-1).view(np.uint8)
            flat[::PAGE].max(initial=0)
        return rows

    def _batches(self, epoch: int) -> Iterator[Piece]:
        """The batches of an epoch, small ones of equal size together."""
        group, done, row = _Group(), 0, 0
        for number, item in enumerate(self._items()):
            where = f"{self.where}: batch {number + 1}"
            rows = self._check(*split(item, where), where, False)
            del item
            if not len(rows):
                raise DataError(f"{where}: expected at least one row, received none")
            if group.refuses(rows):
                yield (piece := group.piece(done, row))
                done, row, group = done + piece.batches, row + piece.total, _Group()
            group.add(rows)
        if group.batches:
            yield group.piece(done, row)

    def _items(self) -> Iterator[Any]:
        """As many of the user's batches as an epoch has: a pass, or so many, taken up where the last epoch ended."""
        if self._limit is None:
            yield from _not_closed(self.loader.begin())
            return
        given = 0
        while given < self._limit:
            fresh, before = self._iterator is None, given
            if self._iterator is None:
                self._iterator = self.loader.begin()
            for item in _not_closed(self._iterator):
                yield item
                given += 1
                if given == self._limit:
                    return
            if self.loader.one_pass or (fresh and given == before):
                return
            self._iterator = None


def _lies_in_a_file(array: np.ndarray) -> bool:
    """Whether its numbers are a file's, mapped by NumPy or by hand, and not in memory before they are looked at."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.obj if isinstance(base, memoryview) else base.base
    return isinstance(base, mmap.mmap)


def _not_closed(iterator: Iterator[Any]) -> Iterator[Any]:
    """Its items; the iterator is not closed when this generator is: it may go on in the next epoch, or be its owner's."""
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item
        del item


class _Group:
    """Batches of equal size, copied one behind the other: an iterable may use its arrays again."""

    def __init__(self) -> None:
        self.batches = self.count = 0
        self._batch = self._room = 0
        self._until = 0.0
        self._rows: Rows | None = None

    def refuses(self, rows: Rows) -> bool:
        """Whether the rows must go into another group."""
        if self._rows is None:
            return False
        full = self.batches == self._room or self.count % self._batch or time.monotonic() > self._until
        alike = all(
            (a is None and b is None)
            or (a is not None and b is not None and (a.dtype, a.shape[1:]) == (b.dtype, b.shape[1:]))
            for a, b in zip(rows.arrays, self._rows.arrays, strict=True)
        )
        return bool(full) or len(rows) > self._batch or not alike

    def add(self, rows: Rows) -> None:
        """Copy them to the end."""
        if self._rows is None:
            self._batch, self._until = len(rows), time.monotonic() + TOGETHER_S
            self._room = max(1, TOGETHER_BYTES // max(1, bytes_of(rows.arrays)))
            self._rows = _room(rows, self._room * self._batch)
        for mine, theirs in zip(self._rows.arrays, rows.arrays, strict=True):
            if mine is not None:
                mine[self.count : self.count + len(rows)] = theirs
        self.count += len(rows)
        self.batches += 1

    def piece(self, first_batch: int, first_row: int) -> Piece:
        """All of them."""
        if self._rows is None:
            raise DataError("data: expected at least one batch")
        return Piece(self._rows.part(0, self.count), self._batch, self.count, first_batch, first_row)


def _room(rows: Rows, size: int) -> Rows:
    """Arrays for so many rows of the same kind."""

    def like(array: np.ndarray | None) -> Any:
        return None if array is None else np.empty((size, *array.shape[1:]), array.dtype)

    return Rows(tuple(map(like, rows.x)), tuple(map(like, rows.y)), like(rows.weight))


def ran_out(where: str, epoch: int, batches: int, wanted: int | None) -> None:
    """Warn that an iterator ended before the training did."""
    so_far = f"after {batches} of {wanted} batches" if batches and wanted else "before its first batch"
    warn(
        f"{where}: the data ran out in epoch {epoch + 1}, {so_far}, so training stops there; give a function that returns a "
        "new iterator, or fewer epochs or steps"
    )
