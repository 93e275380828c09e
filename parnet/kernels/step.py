"""The words a layer declares its work in: buffers and steps. Stage: kernels, lowest; layers write them, the plan is made of
them.

Plain data, no arrays: nothing here allocates or runs. Must not know: Numba, executors, threads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: how a step's work is cut into parts, see `parnet.kernels.share`
COLUMNS, ROWS_SHARED = 1, 2
#: the step is small or sequential: one part does all of it
ONE = 3
#: a run of numbers cut into equal pieces (updates of long vectors)
FLAT = 4
#: every part does the whole step for itself, into its own copy of the output
EACH = 5
#: runs of whole panels of a convolution's weights, all pixels
PANELS = 6
#: runs of pixels of all images of the batch, all channels; see `image_share`
PIXELS = 7

#: what becomes of a weight's gradient, see `parnet.kernels.product.gradient_mode`
STORES, RIDES, ADDS, ALWAYS_STORES = 0, 1, 2, 3

#: rows of a batch above which a weight gradient is made in blocks of rows: it cannot be used, or applied, block by block
#: meanwhile. An update that rides on it took 1004 us for 512 rows of 784 x 100
WHOLE_ROWS = 128

#: words of a step in the native loop's table, and the number of parts that stands for EACH
TABLE_ROW, EVERYONE = 24, -1

SHARE_NAMES = {
    COLUMNS: "columns",
    ROWS_SHARED: "rows",
    ONE: "one",
    FLAT: "flat",
    EACH: "each",
    PANELS: "panels",
    PIXELS: "pixels",
}
#: a step's share word says PIXELS in its low bits and the channels above them
SHARE_BITS = 8


#: numbers that the rows of a matrix are padded to: a whole number of cache lines and of vectors
LINE = 16


#: rows that lie a multiple of so many numbers apart fall into the same few sets of a cache, and push each other out
ALIASED = 512
#: columns of a panel of weights: a weight matrix lies as panels of so many columns, each a run of memory of its own.
#: Parts own whole panels. With rows that run through the panels of two parts the prefetchers of each core fetched the
#: other's lines, and two threads took as long as one: 115 us a step of the 784-100-10 network.
PANEL = 48
#: a last panel of at most so many columns is stored transposed: as vectors along its columns it would cost as much as 16.
#: 200 columns, 8 of them narrow: forward 84 us for 91, weight gradient 90 for 97 (784 x 32 on one thread)
NARROW = 8


#: numbers of scratch memory that every part has, for any kernel
SCRATCH = 8192


#: a product's sums are made in blocks of so many terms: 128 x 48 numbers of B, 24 KB, are used by all row tiles before the
#: next are fetched
DEPTH = 128


#: the last words of a product that asks for nothing meanwhile, see `parnet.kernels.ahead`; the last, the terms of a block
NOTHING_ASKED = (0, 0, 0, 0, DEPTH)


#: Winograd's transforms: products of a tile of 2 x 2 pixels, and tiles that a part owns whole runs of
TILE_PRODUCTS, TILE_GRAIN = 16, 2


#: pixels of an image whose sums one part makes, however many parts there are
CHUNK_PIXELS = 128


def window_panel(width):
    """Columns of a panel of a convolution's weights: as wide as a tile of six rows where that comes out even.

    64 channels as 48 + 16 or 32 + 32 columns ran at 0.85 of the speed of 96.
    """
    return 64 if width % 64 == 0 else PANEL


def row_stride(width):
    """Numbers from one row of a matrix to the next.

    The padding keeps parts that own neighbouring columns from writing to one cache line, lets every row start at a line, and
    lets elementwise loops run over whole vectors. In weights and gradients it is always 0; in activations it may hold
    anything.
    """
    stride = (width + LINE - 1) // LINE * LINE
    return stride + LINE if stride % ALIASED == 0 else stride


def image_share(channels: int) -> int:
    """The share word of a step on images with so many channels: PIXELS, and how many numbers a pixel has."""
    return PIXELS + (channels << SHARE_BITS)


def pixel_grain(channels):
    """Pixels that a part owns whole runs of: they fill whole cache lines."""
    return 8 if channels % 2 == 0 else 16


def pair(first: int, second: int) -> int:
    """Two numbers below 2^31 as one operand word; `high` and `low` read them."""
    return first << 32 | second


def high(word):
    """The first number of a pair."""
    return word >> 32


def low(word):
    """The second number of a pair."""
    return word & 0xFFFFFFFF


@dataclass(frozen=True)
class Buffer:
    """A run of numbers in one region of memory; the plan's layout gives it its place.

    Attributes:
        name: unique in its plan, "dense_1/y".
        region: "arena" (activations), "parameters", "gradients", "slots" (the optimizer's), "state" (moving averages),
            "exchange" (what virtual shards show each other), "shards" (their gradients, one vector after another).
        width: numbers a row when per_row, else numbers in all.
        per_row: one row a sample of the batch, `row_stride(width)` apart.
        shape: for per_row the shape of one sample, else the whole shape.
        copies: each part has its own copy.
    """

    name: str
    region: str
    width: int
    per_row: bool = False
    shape: tuple[int, ...] = ()
    copies: bool = False


def number(value: float) -> int:
    """A float as the operand word that `float_word` reads."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


@dataclass(frozen=True)
class Access:
    """How a step touches a buffer. `local`: each part touches only what it owns under the step's share."""

    buffer: Buffer
    writes: bool
    local: bool


@dataclass(frozen=True)
class Step:
    """One kernel call of the plan.

    Attributes:
        kernel: its name, "product.forward".
        operands: op words: a Buffer (its place), a (Buffer, numbers further) pair, or an int.
        accesses: what it reads and writes, for barriers and lifetimes.
        share: how its work is cut (COLUMNS, ...).
        extent: the sizes that the cut depends on; two steps of equal share and extent are cut alike.
            A size of -1 stands for the rows of the batch.
        flops, bytes: cost for one row of the batch (per_row) or in all.
        per_row: whether flops and bytes are a row's.
        label: the layer it belongs to.
        phase: "input", "forward", "loss", "backward" or "update".
        scratch: 8-byte words of scratch memory a part needs, where that is more than every part has.
    """

    kernel: str
    operands: tuple
    accesses: tuple[Access, ...]
    share: int
    extent: tuple[int, ...]
    flops: float
    bytes: float
    per_row: bool = True
    label: str = ""
    phase: str = ""
    scratch: int = 0

    def touches(self, buffer: Buffer) -> bool:
        """Whether it reads or writes the buffer."""
        return any(access.buffer.name == buffer.name for access in self.accesses)


def reads(*buffers: Buffer) -> tuple[Access, ...]:
    """Accesses that read anywhere in the buffers."""
    return tuple(Access(b, writes=False, local=False) for b in buffers)


def reads_own(*buffers: Buffer) -> tuple[Access, ...]:
    """Accesses that read only what the part owns."""
    return tuple(Access(b, writes=False, local=True) for b in buffers)


def writes_own(*buffers: Buffer) -> tuple[Access, ...]:
    """Accesses that write (and may read) only what the part owns."""
    return tuple(Access(b, writes=True, local=True) for b in buffers)
