"""Who owns what: how the work of one step is cut into parts. Stage: kernels, used by nearly all of them.

Every element of an output belongs to exactly one part, and the cut never changes the order in which the terms of a sum
are added: results do not depend on the number of parts. Must not know: threads.

    COLUMNS   runs of whole panels of columns, all rows
    PANELS    runs of whole panels of a convolution's weights, all pixels
    ROWS      runs of rows in grains of a tile's rows, all columns
    PIXELS    runs of pixels of all images, in grains that fill whole cache lines, all channels
"""

from __future__ import annotations

from .declare import device
from .step import COLUMNS, LINE, NARROW, PANEL, PIXELS, SHARE_BITS, pixel_grain, row_stride, window_panel
from .tile import tile_rows, tile_vectors

stride_of, grain_of, panel_of = device(row_stride), device(pixel_grain), device(window_panel)
TILE_ROWS = tile_rows()
TILE_VECTORS = tile_vectors()


@device
def cut(n, grain, part, parts):
    """Part `part` of 0..n in runs of whole grains: (first, last)."""
    grains = (n + grain - 1) // grain
    first = grains * part // parts * grain
    last = grains * (part + 1) // parts * grain
    return min(first, n), min(last, n)


@device
def run_of(n, lanes, part, parts):
    """Part `part` of a run of n numbers (FLAT): (first, last). All kernels cut such runs here, hence alike."""
    return cut(n, 4 * lanes, part, parts)


@device
def whole(n, lanes):
    """n rounded up to whole vectors: a loop over them may reach into the padding of a row, and leaves no single steps."""
    return (n + lanes - 1) // lanes * lanes


@device
def columns(width, part, parts):
    """Part `part` of `width` columns in runs of whole panels; a narrow last panel goes with the one before it."""
    panels = width // PANEL + (width % PANEL > NARROW)
    first = min(panels * part // parts * PANEL, width)
    return first, width if part == parts - 1 else min(panels * (part + 1) // parts * PANEL, width)


@device
def pixels_of(images, pixels, channels, part, parts):
    """Part `part` of the pixels of all images, counted through: (first, last)."""
    grain = grain_of(channels)
    grains = (pixels + grain - 1) // grain
    first, last = images * grains * part // parts, images * grains * (part + 1) // parts
    return first // grains * pixels + first % grains * grain, last // grains * pixels + last % grains * grain


@device
def rectangle(share, rows, width, part, parts):
    """What a part owns of a rows x width matrix: first row, last row, first column, last column.

    Of PIXELS the first column is that of the first row, the last that of the last row: see `span`.
    """
    if share >= PIXELS:
        channels = share >> SHARE_BITS
        pixels = width // channels
        first, last = pixels_of(rows, pixels, channels, part, parts)
        if first == last:
            return 0, 0, 0, 0
        end = (last - 1) // pixels
        return first // pixels, end + 1, first % pixels * channels, (last - end * pixels) * channels
    if share == COLUMNS:
        first, last = columns(width, part, parts)
        return 0, rows, first, last
    first, last = cut(rows, TILE_ROWS, part, parts)
    return first, last, 0, width


@device
def weights_of(share, height, width, part, parts):
    """What a part owns of a weight's gradient, as `rectangle`; rows in whole lines, so that two parts read no line of x
    both: 443 and 557 us in place of 450 each.
    """
    if share == COLUMNS:
        return rectangle(share, height, width, part, parts)
    first, last = cut(height, LINE, part, parts)
    return first, last, 0, width


@device
def span(share, width, row, r0, r1, c0, c1):
    """The columns that a part owns of one row of its rectangle: (first, last)."""
    if share < PIXELS:
        return c0, c1
    return c0 if row == r0 else 0, c1 if row == r1 - 1 else width
