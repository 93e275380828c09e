"""3 x 3 windows with step one, in inference: 16 products for each 2 x 2 outputs in place of 36. Stage: kernels.

    weights    U_p = (G w G')_p        16 matrices of (C, F), made anew when the weights have changed
    forward    in blocks of tiles that stay in a core's own cache: V_p = (B' x B)_p, M_p = V_p U_p, y = A' M A

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2 x 2, 3 x 3). Sums differ from those of
`conv.forward` in the last bits; they do not depend on parts, blocks or the batch. C and F are multiples of whole vectors.
Must not know: layers.
"""

from __future__ import annotations

from .control import ROWS, SCRATCH
from .conv import OTHER, RELU, ends, lower, upper
from .declare import device, kernel
from .gathered import FAR, NO_FLOOR, gather_columns
from .intrinsics import address_of, at, int64_at, lanes, like, pointer_at
from .share import cut, panel_of, stride_of
from .step import LINE, PANELS, TILE_GRAIN, TILE_PRODUCTS
from .window import PLAIN
from .winograd_tile import enter, enter_edge, make_leave, turn_taps

leave, leave_added = make_leave(False), make_leave(True)


@kernel
def weights(op, ctl, mem, part, parts):
    """w (9 C, F) -> u (16, C, F) written, both in panels; the 16 matrices lie C F + LINE numbers apart.

    op: w, u, C, F.   Owner: rows of each matrix.
    """
    channels, width = op[2], op[3]
    wide, step = panel_of(width), channels * width + LINE
    first, last = cut(channels, 1, part, parts)
    for panel in range(0, width, wide):
        row = stride_of(min(wide, width - panel))
        w, u = at(mem, op[0] + panel * 9 * channels), at(mem, op[1] + panel * channels)
        for c in range(first, last):
            for j in range(0, row, lanes(mem)):
                turn_taps(at(w, c * row + j), channels * row, at(u, c * row + j), step)


@device
def go_to(place, tile, across, down):
    """place: int64[3], becomes image, top and left of a tile's outputs."""
    place[0], tile = tile // (across * down), tile % (across * down)
    place[1], place[2] = tile // across * 2, tile % across * 2


@device
def go_on(place, across, down):
    """To the next tile: divisions would take as long as the transforms of 16 channels."""
    place[2] += 2
    if place[2] == 2 * across:
        place[1], place[2] = place[1] + 2, 0
    if place[1] == 2 * down:
        place[0], place[1] = place[0] + 1, 0


@device
def enter_tile(op, mem, place, zeros, seen, v, step):
    """V of all channels of a tile."""
    height, width, channels = upper(op[6]), lower(op[6]), upper(op[8])
    top, left = place[1] - upper(op[13]), place[2] - lower(op[13])
    first = op[0] + place[0] * stride_of(height * width * channels) + (top * width + left) * channels
    if top >= 0 and left >= 0 and top + 4 <= height and left + 4 <= width:
        for c in range(0, channels, lanes(mem)):
            enter(at(mem, first + c), width * channels, channels, at(v, c), step)
        return
    for a in range(4):
        for b in range(4):
            inside = 0 <= top + a < height and 0 <= left + b < width
            seen[4 * a + b] = address_of(at(mem, first + (a * width + b) * channels)) if inside else zeros
    for c in range(0, channels, lanes(mem)):
        enter_edge(seen, c, at(v, c), step)


@device
def leave_tile(op, mem, place, c0, c1, zeros, spare, goals, m, step, scale, shift, floor):
    """y of channels c0..c1 of a tile; outputs that the image has not go to `spare`."""
    height, width, outputs = upper(op[7]), lower(op[7]), lower(op[8])
    first = place[0] * stride_of(height * width * outputs) + (place[1] * width + place[2]) * outputs
    y, other = address_of(at(mem, op[2] + first)), address_of(at(mem, op[4] + first))
    right, below = address_of(at(mem, outputs)) - address_of(mem), address_of(at(mem, width * outputs)) - address_of(mem)
    goals[0], goals[1], goals[2], goals[3] = y, y + right, y + below, y + below + right
    goals[4], goals[5], goals[6], goals[7] = other, other + right, other + below, other + below + right
    if place[2] + 1 == width:
        goals[1], goals[3], goals[5], goals[7] = spare, spare, zeros, zeros
    if place[1] + 1 == height:
        goals[2], goals[3], goals[6], goals[7] = spare, spare, zeros, zeros
    if op[5] & OTHER:
        for c in range(c0, c1, lanes(mem)):
            leave_added(at(m, c), step, goals, c, at(scale, c), at(shift, c), floor)
    else:
        for c in range(c0, c1, lanes(mem)):
            leave(at(m, c), step, goals, c, at(scale, c), at(shift, c), floor)


@kernel
def forward(op, ctl, mem, part, parts):
    """x (rows, H, W, C), u of `weights`, ends as of `conv.forward` -> y (rows, Ho, Wo, F) written; FLOPs 32 C F a tile.

    op: as of `conv.forward`, with u for w; a block is of tiles.   Owner: tiles of 2 x 2 pixels, or columns where the share
    is PANELS: each part then makes V of all tiles, and reads its part of the matrices alone.
    """
    channels, outputs, block, flags = upper(op[8]), lower(op[8]), op[15], op[5]
    size = address_of(at(mem, 1)) - address_of(mem)
    across, down = (lower(op[7]) + 1) // 2, (upper(op[7]) + 1) // 2
    v_step, m_step, u_step = block * channels + LINE, block * outputs + LINE, channels * outputs + LINE
    seen = int64_at(ctl[SCRATCH])
    goals, shifts, into, out = (
        at(seen, TILE_PRODUCTS),
        at(seen, TILE_PRODUCTS + 8),
        at(seen, TILE_PRODUCTS + 9),
        at(seen, TILE_PRODUCTS + 12),
    )
    places = at(seen, TILE_PRODUCTS + 16)
    table = at(places, block)
    zeros = pointer_at(mem, address_of(at(table, block)))
    spare = at(zeros, max(channels, outputs))
    scale, shift, v = at(spare, outputs), at(spare, 2 * outputs), at(spare, 3 * outputs)
    m = at(v, TILE_PRODUCTS * v_step)
    for j in range(max(channels, outputs)):
        zeros[j] = like(mem, 0)
    for i in range(block):
        places[i] = i * outputs
    shifts[0] = 0
    floor = like(mem, 0) if flags & RELU else like(mem, NO_FLOOR)
    ends(op, mem, 0, outputs, scale, shift)
    none, nothing = address_of(spare), address_of(zeros)
    first, last, c0, c1 = 0, ctl[ROWS] * across * down, 0, outputs
    if op[14] == PANELS:
        c0, c1 = cut(outputs, panel_of(outputs), part, parts)
        last = last if c0 < c1 else 0
    else:
        first, last = cut(last, TILE_GRAIN, part, parts)
    go_to(into, first, across, down)
    go_to(out, first, across, down)
    for t in range(first, last, block):
        rows = min(block, last - t)
        for i in range(rows):
            enter_tile(op, mem, into, nothing, seen, at(v, i * channels), v_step)
            go_on(into, across, down)
        for p in range(TILE_PRODUCTS):
            for i in range(rows):
                table[i] = address_of(v) + (p * v_step + i * channels) * size
            gather_columns(
                rows, 1, channels, table, places, 1, shifts, at(mem, op[1] + p * u_step), channels, c0, c1, outputs,
                at(m, p * m_step), PLAIN, scale, shift, m, like(mem, NO_FLOOR), TILE_PRODUCTS * u_step > FAR,
                u_step - (c1 - c0) * channels,
            )  # fmt: skip
        for i in range(rows):
            leave_tile(op, mem, out, c0, c1, nothing, none, goals, at(m, i * outputs), m_step, scale, shift, floor)
            go_on(out, across, down)
