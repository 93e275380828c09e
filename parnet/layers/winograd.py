"""Convolutions in inference by Winograd's transforms: which ones, and how they are declared. Stage: layers.

Must not know: kernels' code, executors.
"""

from __future__ import annotations

from ..kernels.step import (
    LINE,
    PANELS,
    PIXELS,
    ROWS_SHARED,
    TILE_GRAIN,
    TILE_PRODUCTS,
    Buffer,
    reads,
    window_panel,
    writes_own,
)
from .base import Build
from .window import PlacedWindow

#: channels and filters below which the transforms cost more than they save
LEAST = 32
#: tiles of an image below which the 16 matrices, 16/9 of the weights, take longer to read than is saved
LEAST_TILES = 32
#: tiles of a block: few, so that the 16 matrices and the block stay in a core's own cache together (64 channels: 1.05 ms a
#: 56 x 56 image; 48 tiles 1.26, 12 tiles 1.25); more where the matrices are larger than it, for each block reads them all
BLOCK, LARGE_BLOCK, LARGE_NUMBERS = 24, 48, 200_000


def suits(window: PlacedWindow, filters: int, groups: int) -> bool:
    """Whether a convolution is faster by way of the transforms. It does not depend on the batch: nor do the bits."""
    shape = window.window
    plain = (shape.taps, shape.steps, shape.dilation, groups) == ((3, 3), (1, 1), (1, 1), 1)
    whole = window.channels % LINE == 0 and filters % LINE == 0
    return plain and whole and min(window.channels, filters) >= LEAST and tiles_of(window) >= LEAST_TILES


def tiles_of(window: PlacedWindow) -> int:
    """Tiles of 2 x 2 pixels of the output, the last ones perhaps in part."""
    return -(-window.out[0] // 2) * -(-window.out[1] // 2)


def declare(
    build: Build,
    x: Buffer,
    y: Buffer,
    window: PlacedWindow,
    ends: tuple,
    words: tuple,
    norm: tuple,
    others: tuple[Buffer, ...],
) -> None:
    """The steps of y = the window over x, with the weight "kernel".

    Args:
        ends: operands bias, other, flags of `conv.forward`; words: its geometry; norm: its words of the normalisation.
        others: buffers among these.
    """
    channels, filters, tiles, kernel = window.channels, y.shape[-1], tiles_of(window), build.weight("kernel")
    numbers = channels * filters
    turned = build.fixed("transformed", TILE_PRODUCTS * (numbers + LINE))
    build.prepare(
        "winograd.weights", (kernel, turned, channels, filters), reads(kernel) + writes_own(turned), ROWS_SHARED,
        (8 * channels,), bytes=4.0 * 25 * numbers,
    )  # fmt: skip
    grains = -(-build.batch * tiles // TILE_GRAIN)
    by_columns = _by_columns(build.batch * tiles, numbers, filters, build.threads)
    block = _block(build.batch * tiles if by_columns else -(-grains // build.threads) * TILE_GRAIN, numbers)
    # where tiles are shared, a cut like no image's: tiles are not its pixels
    share, extent = (PANELS, (-1, filters)) if by_columns else (PIXELS, (-1, tiles, TILE_GRAIN))
    build.step(
        "winograd.forward",
        (x, turned, y, *ends, *words, share, block, *norm),
        reads(x, turned, *others) + writes_own(y),
        share,
        extent,
        2.0 * TILE_PRODUCTS * tiles * numbers,
        4.0 * (x.width + y.width),
        scratch=scratch_words(block, channels, filters),
    )


def _by_columns(tiles: int, numbers: int, filters: int, threads: int) -> bool:
    """Whether parts share the columns: few tiles, so that each part would read large matrices for little work. 14 x 14
    pixels of 256 channels on two threads: 0.69 ms for 0.74.
    """
    panels = -(-filters // window_panel(filters))
    return 1 < threads <= panels and panels % threads == 0 and tiles <= threads * LARGE_BLOCK and _is_large(numbers)


def _is_large(numbers: int) -> bool:
    return TILE_PRODUCTS * numbers > LARGE_NUMBERS


def _block(tiles: int, numbers: int) -> int:
    """Tiles of a block, of so many that a part has, for weights of so many numbers: whole tiles of the products."""
    most = LARGE_BLOCK if _is_large(numbers) else BLOCK
    each = -(-max(1, tiles) // max(1, round(tiles / most)))
    return -(-each // 6) * 6


def scratch_words(block: int, channels: int, filters: int) -> int:
    """Words of scratch memory that `winograd.forward` needs."""
    numbers = max(channels, filters) + 3 * filters + TILE_PRODUCTS * (block * (channels + filters) + 2 * LINE)
    return 2 * TILE_PRODUCTS + 2 * block + numbers + LINE
