"""`DataLoader`: batches of arrays, of files that may be larger than memory, or of a user's iterable. Stage: train.

For a manual loop it gives the batches themselves; for `fit`, `evaluate` and `predict` it says which rows come when, and
`stream` brings them to the engine. Must not know: models, plans, executors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import seeding
from ..checks import check_argument, check_count, check_flag
from ..errors import DataError, DTypeError, HyperparameterError
from .columns import Column, column, is_paths, members
from .prefetch import Prefetch

#: bytes of a window of a file, unless the user says how many rows
WINDOW_BYTES = 32 << 20


@dataclass(frozen=True)
class Window:
    """Rows first..last of a data set, and the order (numbers in the data set) in which they come; None: as they lie."""

    first: int
    last: int
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return self.last - self.first if self.order is None else len(self.order)


class DataLoader:
    """Batches, for a manual loop or in place of `x` and `y` in `fit`, `evaluate` and `predict`.

    Args:
        x: one of
            an array, which may be an `np.memmap`;
            the path of a `.npy` or `.npz` file, or a list of such paths, whose rows follow each other; `.npz` files hold
            arrays named `x`, `y` and, where there are any, `sample_weight`. Files are mapped a window at a time, so they
            may be larger than memory; compressed `.npz` files are read one at a time;
            an iterable of batches (x, y), (x, y, sample_weight) or, for `predict`, x: a list, an object with `__iter__`, a
            function that returns a new iterator, or an iterator, which can be gone through once.
        y: array or paths of the targets; left out for `.npz` files and iterables, and where there are none.
        batch_size: rows of a batch; the last one may be smaller. Batches of an iterable are taken as they come.
        sample_weight: array or paths.
        shuffle: a new order in each pass, from the seed and the number of the pass. Arrays are shuffled as a whole, as `fit`
            does it with the same seed. Files are shuffled in windows: the windows come in a random order (but for a smaller
            last one, which comes last), and so do the rows within each. A window of all rows shuffles as a whole.
        seed: of the shuffling.
        drop_last: leave out a smaller last batch.
        window: rows that are looked at together, rounded down to whole batches; by default all rows of arrays and 32 MiB of
            a file.
        prefetch: windows (of an iterable in a manual loop: batches) that a thread makes ready ahead; 0: no thread, as an
            iterable needs that gives out the same array again and again to a manual loop.
    Raises:
        DataError: lengths that differ, or no rows. FileFormatError: a damaged file. OSError: one that cannot be read.
        DTypeError: no numbers. HyperparameterError: an option that an iterable has no use for.

    >>> import numpy as np
    >>> [len(x) for x, y in DataLoader(np.zeros((10, 3)), np.zeros(10), batch_size=4)]
    [4, 4, 2]
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        *,
        sample_weight: Any = None,
        shuffle: bool = False,
        seed: int | None = None,
        drop_last: bool = False,
        window: int | None = None,
        prefetch: int = 2,
    ):
        self.batch_size = check_count(batch_size, "DataLoader: batch_size")
        self.shuffle, self.passes = check_flag(shuffle, "DataLoader: shuffle"), 0
        self.drop_last = check_flag(drop_last, "DataLoader: drop_last")
        self.seed = seeding.next_seed() if seed is None else seeding.check_seed(seed)
        self.prefetch = check_count(prefetch, "DataLoader: prefetch", low=0)
        #: the user's iterable, or None
        self.source = x if is_iterable(x) else None
        #: inputs, targets and sample weights, as far as there are any; None for an iterable
        self.columns: tuple[Column, Column | None, Column | None] | None = None
        if self.source is None:
            self.columns = _columns(x, y, sample_weight)
            #: whether the rows lie in arrays and are looked at all together
            self.in_memory = window is None and not any(is_paths(one) for one in (x, y, sample_weight))
            self.window = self._whole_batches(window)
            return
        self.in_memory, self.window = False, self.batch_size
        given = {"y": y is not None, "sample_weight": sample_weight is not None, "shuffle": shuffle, "window": window}
        for name in (name for name, value in given.items() if value):
            raise HyperparameterError(
                f"DataLoader({name}): an iterable gives batches of its own; leave {name} out, and let the iterable give "
                "(x, y) or (x, y, sample_weight) in the order wanted"
            )

    def _whole_batches(self, window: int | None) -> int:
        """Rows of a window."""
        rows = self.rows or 0
        if window is not None:
            wanted = check_count(window, "DataLoader: window")
            check_argument(
                wanted >= self.batch_size,
                "DataLoader(window)",
                f"at least batch_size, {self.batch_size}",
                window,
                "take more rows",
            )
        elif self.in_memory:
            wanted = rows
        else:
            wanted = WINDOW_BYTES // max(1, sum(c.row_bytes for c in self.columns or () if c is not None))
        wanted = max([wanted, *(c.longest_whole for c in self.columns or () if c is not None)])
        if wanted >= rows:
            return max(1, rows)
        return max(1, wanted // self.batch_size) * self.batch_size

    @property
    def rows(self) -> int | None:
        """Rows of a pass; None where only the iterable knows."""
        if self.columns is None:
            return None
        rows = len(self.columns[0])
        return rows - rows % self.batch_size if self.drop_last else rows

    @property
    def one_pass(self) -> bool:
        """Whether it can be gone through only once."""
        return hasattr(self.source, "__next__")

    def __len__(self) -> int:
        """Batches of a pass. Raises TypeError for an iterable that does not know."""
        if self.rows is not None:
            return -(-self.rows // self.batch_size)
        return len(self.source)  # type: ignore[arg-type]

    def windows(self, number: int) -> Iterator[Window]:
        """The windows of a pass, in their order; each but the last to come is a whole number of batches.

        Args:
            number: of the pass.
        """
        rows, total = self.rows or 0, len(self.columns[0]) if self.columns else 0
        if not rows:
            return
        if not self.shuffle:
            for first in range(0, rows, self.window):
                yield Window(first, min(rows, first + self.window))
        elif self.window >= rows:
            yield Window(0, total, seeding.shuffled(self.seed, number, total)[:rows])
        else:
            full, rest = divmod(total, self.window)
            for place in seeding.generator(self.seed, seeding.SHUFFLE, number, 0).permutation(full):
                yield self._shuffled(int(place), number, self.window)
            if rest and rows > full * self.window:
                yield self._shuffled(full, number, rows - full * self.window)

    def _shuffled(self, place: int, number: int, rows: int) -> Window:
        """So many rows of the window at a place."""
        first = place * self.window
        last = min(first + self.window, len(self.columns[0]) if self.columns else 0)
        order = seeding.generator(self.seed, seeding.SHUFFLE, number, 1 + place).permutation(last - first)
        return Window(first, last, first + order[:rows].astype(np.int64, copy=False))

    def arrays(self, window: Window) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Rows first..last of inputs, targets and sample weights, as they are stored."""
        x, y, weight = (None if c is None else c.rows(window.first, window.last) for c in self.columns or ())
        return x, y, weight  # type: ignore[return-value]

    def begin(self) -> Iterator[Any]:
        """A new pass through the iterable. Raises DTypeError where it gives no iterator."""
        return begin(self.source)

    def __iter__(self) -> Iterator[Any]:
        number, self.passes = self.passes, self.passes + 1
        if self.columns is None:
            make: Callable[[], Iterator[Any]] = self.begin
        else:
            make = lambda: ((window, self.arrays(window)) for window in self.windows(number))  # noqa: E731
        with Prefetch(make, 0 if self.in_memory else self.prefetch) as items:
            for item in items:
                if self.columns is None:
                    yield item
                else:
                    yield from self._batches(*item)

    def _batches(self, window: Window, arrays: tuple) -> Iterator[Any]:
        """The batches of one window: x alone, (x, y) or (x, y, sample_weight)."""
        for first in range(0, len(window), self.batch_size):
            rows: Any = slice(first, first + self.batch_size)
            if window.order is not None:
                rows = window.order[rows] - window.first
            x, y, weight = (None if one is None else one[rows] for one in arrays)
            yield x if y is None else (x, y) if weight is None else (x, y, weight)

    def __repr__(self) -> str:
        if self.columns is None:
            return f"DataLoader({type(self.source).__name__})"
        return f"DataLoader({len(self.columns[0])} rows {self.columns[0].shape[1:]}, batch_size={self.batch_size})"


def is_iterable(x: Any) -> bool:
    """Whether x gives batches and is no array or path: an iterator, a function, or an iterable of no known kind."""
    if is_paths(x) or isinstance(x, np.ndarray | dict | range) or hasattr(x, "__array__"):
        return False
    if isinstance(x, list | tuple):
        return bool(x) and all(isinstance(one, tuple) and len(one) in (2, 3) and hasattr(one[0], "__array__") for one in x)
    return callable(x) or hasattr(x, "__next__") or hasattr(x, "__iter__") or hasattr(x, "__getitem__")


def begin(source: Any) -> Iterator[Any]:
    """A new pass through an iterable."""
    made = source() if callable(source) else source
    if hasattr(made, "__next__"):
        return made
    if hasattr(made, "__iter__"):
        return iter(made)
    if hasattr(made, "__getitem__") and hasattr(made, "__len__"):  # such as a Sequence of Keras
        return (made[k] for k in range(len(made)))
    raise DTypeError(f"DataLoader: expected a function that returns an iterator, received one that returns {made!r}")


def _columns(x: Any, y: Any, weight: Any) -> tuple[Column, Column | None, Column | None]:
    """Inputs, targets and sample weights, of equal length."""
    names = members(x)
    inputs = column(x, "DataLoader: x")
    if not len(inputs):
        raise DataError(f"DataLoader: expected x with at least one row, received shape {inputs.shape}")
    result: list[Column | None] = [inputs]
    for given, name in ((y, "y"), (weight, "sample_weight")):
        source = x if given is None and name in names else given
        one = None if source is None else column(source, f"DataLoader: {name}", name)
        if one is not None and len(one) != len(inputs):
            raise DataError(f"DataLoader: expected {name} of {len(inputs)} rows like x, received shape {one.shape}")
        result.append(one)
    return result[0], result[1], result[2]  # type: ignore[return-value]


def split(item: Any, where: str) -> tuple[Any, Any, Any]:
    """A batch of an iterable as (x, y, sample_weight); what is left out is None.

    Raises:
        DataError: something else.
    """
    if isinstance(item, tuple | list) and 1 <= len(item) <= 3:
        x, y, weight = (*item, None, None)[:3]
        return x, y, weight
    if hasattr(item, "__array__") or isinstance(item, dict):
        return item, None, None
    received = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
    raise DataError(f"{where}: expected (x, y) or (x, y, sample_weight), received {received}")


def bytes_of(arrays: Any) -> int:
    """Of several arrays together, None among them."""
    return sum(math.prod(a.shape) * a.itemsize for a in arrays if a is not None)
