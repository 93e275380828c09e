"""Convolution of images as products without a matrix of windows; as `parnet/kernels/conv.py`. Stage: cuda.

The tiles of `tile.py` read images through three numbers about an output pixel (where its image starts, the row and column
its window starts at) and three about a tap (row and column within the window, channel). Groups are launched one after
another.
"""

from __future__ import annotations

from functools import cache

from ..kernels.control import ROWS
from ..kernels.step import row_stride, window_panel
from .deliver import deliver
from .launch import Context, Fed, Launch, float_of, lower, upper
from .maths import functions
from .panels import WORDS, panels, start, step
from .runtime import cuda
from .tile import Operands, launches

# places of the words behind those of the panels
(HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH, CHANNELS, OUTPUTS, KH, KW, GROUPS, TAP_Y, TAP_X, STEP_Y, STEP_X) = range(
    WORDS, WORDS + 13
)
(ABOVE, LEFT, X_ROW, Y_ROW, GROUP, FLAGS) = range(WORDS + 13, WORDS + 19)
#: bits of the flags of `forward`: what is done to a finished sum
BIAS, OTHER, RELU, NORM = 1, 2, 4, 8
#: sums of rows a thread makes at a time for the bias gradient
LINES = 256


@cuda.jit(device=True)
def _window(geo, m):
    """Of output pixel m: where its image starts, and the row and column its window starts at."""
    pixels = geo[OUT_HEIGHT] * geo[OUT_WIDTH]
    p = m % pixels
    h = p // geo[OUT_WIDTH] * geo[STEP_Y] - geo[ABOVE]
    w = p % geo[OUT_WIDTH] * geo[STEP_X] - geo[LEFT]
    return m // pixels * geo[X_ROW] + geo[GROUP] * geo[CHANNELS], h, w


@cuda.jit(device=True)
def _tap(geo, k):
    """Of number k of a window: its row and column, and its channel."""
    tap = k // geo[CHANNELS]
    return tap // geo[KW] * geo[TAP_Y], tap % geo[KW] * geo[TAP_X], k % geo[CHANNELS]


@cache
def _of_window(T):
    """The number of x at a tap of a window; 0 outside of the image."""

    @cuda.jit(device=True)
    def left(geo, x, image, h, w, y, z, c):
        h += y
        w += z
        if h < 0 or h >= geo[HEIGHT] or w < 0 or w >= geo[WIDTH]:
            return T(0)
        return x[image + (h * geo[WIDTH] + w) * geo[CHANNELS] * geo[GROUPS] + c]

    return left


@cache
def forward(T) -> Operands:
    """Y (pixels, F of a group) = windows of X (pixels, taps C) . W; tail: bias, other, gamma, beta, mean, variance."""
    sqrt = functions(T).sqrt

    @cuda.jit(device=True)
    def extent(ctl, geo):
        return ctl[ROWS] * geo[OUT_HEIGHT] * geo[OUT_WIDTH], geo[OUTPUTS], geo[KH] * geo[KW] * geo[CHANNELS]

    @cuda.jit(device=True)
    def right(geo, w, k, j):
        f = geo[GROUP] * geo[OUTPUTS] + j
        return w[start(geo, 0, geo[KH] * geo[KW] * geo[CHANNELS], f) + k * step(geo, 0, f)]

    @cuda.jit(device=True)
    def store(ctl, geo, par, y, tail, m, j, total):
        pixels, f = geo[OUT_HEIGHT] * geo[OUT_WIDTH], geo[GROUP] * geo[OUTPUTS] + j
        spot = m // pixels * geo[Y_ROW] + m % pixels * geo[OUTPUTS] * geo[GROUPS] + f
        bias, other, gamma, beta, mean, variance = tail
        if geo[FLAGS] & BIAS:
            total += bias[f]
        if geo[FLAGS] & NORM:
            total = (total - mean[f]) * (gamma[f] / sqrt(variance[f] + par[0])) + beta[f]
        if geo[FLAGS] & OTHER:
            total += other[spot]
        if geo[FLAGS] & RELU and total < T(0):
            total = T(0)
        y[spot] = total

    return Operands(extent, _window, _tap, _of_window(T), right, store, terms_lie_together=True)


@cache
def weight_gradient(T) -> Operands:
    """dW (taps C, F of a group) = windows of X transposed . dY."""
    give = deliver(T)

    @cuda.jit(device=True)
    def extent(ctl, geo):
        m = geo[KH] * geo[KW] * geo[CHANNELS] if ctl[ROWS] else 0
        return m, geo[OUTPUTS], ctl[ROWS] * geo[OUT_HEIGHT] * geo[OUT_WIDTH]

    window = _of_window(T)

    @cuda.jit(device=True)
    def left(geo, x, y, z, c, image, h, w):
        return window(geo, x, image, h, w, y, z, c)

    @cuda.jit(device=True)
    def right(geo, dy, k, j):
        pixels = geo[OUT_HEIGHT] * geo[OUT_WIDTH]
        place = k // pixels * geo[Y_ROW] + k % pixels * geo[OUTPUTS] * geo[GROUPS]
        return dy[place + geo[GROUP] * geo[OUTPUTS] + j]

    @cuda.jit(device=True)
    def store(ctl, geo, par, dw, tail, i, j, total):
        f = geo[GROUP] * geo[OUTPUTS] + j
        place = start(geo, 0, geo[KH] * geo[KW] * geo[CHANNELS], f) + i * step(geo, 0, f)
        give(ctl, tail[0], geo[FLAGS], dw, place, total)

    return Operands(extent, _tap, _window, left, right, store, terms_lie_together=False)


@cache
def input_gradient(T) -> Operands:
    """dX (input pixels, C of a group) = gradients of the windows that reach them (pixels, taps F) . V."""

    @cuda.jit(device=True)
    def extent(ctl, geo):
        return ctl[ROWS] * geo[HEIGHT] * geo[WIDTH], geo[CHANNELS], geo[KH] * geo[KW] * geo[OUTPUTS]

    @cuda.jit(device=True)
    def row(geo, m):
        pixels = geo[HEIGHT] * geo[WIDTH]
        p = m % pixels
        place = m // pixels * geo[Y_ROW] + geo[GROUP] * geo[OUTPUTS]
        return place, p // geo[WIDTH] + geo[ABOVE], p % geo[WIDTH] + geo[LEFT]

    @cuda.jit(device=True)
    def term(geo, k):
        tap = k // geo[OUTPUTS]
        return tap // geo[KW] * geo[TAP_Y], tap % geo[KW] * geo[TAP_X], k % geo[OUTPUTS]

    @cuda.jit(device=True)
    def left(geo, dy, image, h, w, y, z, f):
        h -= y
        w -= z
        if h < 0 or w < 0 or h % geo[STEP_Y] or w % geo[STEP_X]:
            return T(0)
        o, q = h // geo[STEP_Y], w // geo[STEP_X]
        if o >= geo[OUT_HEIGHT] or q >= geo[OUT_WIDTH]:
            return T(0)
        return dy[image + (o * geo[OUT_WIDTH] + q) * geo[OUTPUTS] * geo[GROUPS] + f]

    @cuda.jit(device=True)
    def right(geo, v, k, j):
        c = geo[GROUP] * geo[CHANNELS] + j
        return v[start(geo, 0, geo[KH] * geo[KW] * geo[OUTPUTS], c) + k * step(geo, 0, c)]

    @cuda.jit(device=True)
    def store(ctl, geo, par, dx, tail, m, j, total):
        pixels, c = geo[HEIGHT] * geo[WIDTH], geo[GROUP] * geo[CHANNELS] + j
        dx[m // pixels * geo[X_ROW] + m % pixels * geo[CHANNELS] * geo[GROUPS] + c] = total

    return Operands(extent, row, term, left, right, store, terms_lie_together=True)


@cache
def turn_weights(T):
    """v (taps F, C G) = w (taps C, F G), each group's C x F block of each tap transposed; both in panels."""

    @cuda.jit
    def run(ctl, geo, par, w, v):
        taps, channels, outputs, groups = geo[2 * WORDS], geo[2 * WORDS + 1], geo[2 * WORDS + 2], geo[2 * WORDS + 3]
        c0, k0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for k in range(k0, taps * outputs, down):
            for into in range(c0, channels * groups, across):
                tap, f, g, c = k // outputs, k % outputs, into // channels, into % channels
                from_f = g * outputs + f
                source = start(geo, 0, taps * channels, from_f) + (tap * channels + c) * step(geo, 0, from_f)
                v[start(geo, WORDS, taps * outputs, into) + k * step(geo, WORDS, into)] = w[source]

    return run


@cache
def line_sums(T):
    """sums (chunks, F): dy summed over LINES of a batch's pixels."""

    @cuda.jit
    def run(ctl, geo, par, dy, sums):
        pixels, width, row = geo
        j0, chunk0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        count = ctl[ROWS] * pixels
        for chunk in range(chunk0, (count + LINES - 1) // LINES, down):
            for j in range(j0, width, across):
                total = T(0)
                for m in range(chunk * LINES, min(count, (chunk + 1) * LINES)):
                    total += dy[m // pixels * row + m % pixels * width + j]
                sums[chunk * width + j] = total

    return run


@cache
def bias_gradient(T):
    """db = the sums of all chunks, in order."""
    give = deliver(T)

    @cuda.jit
    def run(ctl, geo, par, sums, db, rates):
        pixels, width, mode = geo
        if ctl[ROWS] == 0:
            return
        for j in range(cuda.grid(1), width, cuda.gridsize(1)):
            total = T(0)
            for chunk in range((ctl[ROWS] * pixels + LINES - 1) // LINES):
                total += sums[chunk * width + j]
            give(ctl, rates, mode, db, j, total)

    return run


class _Geometry:
    """The eight geometry words of a plan, unpacked."""

    def __init__(self, words):
        pairs = [(upper(word), lower(word)) for word in words]
        self.size, self.out, (self.channels, self.outputs), self.taps, (self.groups, _), *rest = pairs
        self.dilation, self.steps, self.padding = rest
        self.into, self.width = self.channels * self.groups, self.outputs * self.groups
        self.tap_count, self.pixels = self.taps[0] * self.taps[1], self.out[0] * self.out[1]
        self.x_row = row_stride(self.size[0] * self.size[1] * self.into)
        self.y_row = row_stride(self.pixels * self.width)

    def words(self, own_panels: tuple[int, ...], group: int, flags: int) -> tuple[int, ...]:
        """As the kernels read them."""
        inner = (*self.size, *self.out, self.channels, self.outputs, *self.taps, self.groups)
        rest = (*self.dilation, *self.steps, *self.padding, self.x_row, self.y_row, group, flags)
        return (*own_panels, *inner, *rest)


def _forward(c: Context, op: tuple) -> list[Launch]:
    x, w, y, bias, other, flags, *rest = op
    g, ends = _Geometry(rest[:8]), rest[10:]
    terms = g.tap_count * g.channels
    tail = c.arrays(bias, other, *(ends[:4] or (0, 0, 0, 0)))
    par, own_panels = (float_of(ends[4]),) if ends else (), panels(terms, g.width, window_panel(g.width))
    found = []
    for group in range(g.groups):
        geo = g.words(own_panels, group, flags)
        extent = (c.batch * g.pixels, g.outputs, terms)
        found += launches(c, forward(c.T), extent, geo, par, c.arrays(x, w, y), tail)
    return found


def _weight_gradient(c: Context, op: tuple) -> list[Launch]:
    x, dy, dw, *rest = op
    g, (_, mode, db, has_bias) = _Geometry(rest[:8]), rest[8:]
    terms, found = g.tap_count * g.channels, []
    own_panels = panels(terms, g.width, window_panel(g.width))
    for group in range(g.groups):
        geo, extent = g.words(own_panels, group, mode), (terms, g.outputs, c.batch * g.pixels)
        found += launches(c, weight_gradient(c.T), extent, geo, (), c.arrays(x, dy, dw), (Fed("rates"),))
    if has_bias:
        chunks = -(-c.batch * g.pixels // LINES)
        sums = c.scratch(chunks * g.width)
        geo = (g.pixels, g.width, g.y_row)
        found.append(c.plane(line_sums(c.T), g.width, geo, (), c.array(dy), sums, rows=chunks))
        geo = (g.pixels, g.width, mode)
        found.append(c.flat(bias_gradient(c.T), g.width, geo, (), sums, c.array(db), Fed("rates")))
    return found


def _turn_weights(c: Context, op: tuple) -> list[Launch]:
    w, v, taps, channels, outputs, groups = op
    into, width = channels * groups, outputs * groups
    one, two = panels(taps * channels, width, window_panel(width)), panels(taps * outputs, into, window_panel(into))
    geo = (*one, *two, taps, channels, outputs, groups)
    return [c.plane(turn_weights(c.T), into, geo, (), *c.arrays(w, v), rows=taps * outputs)]


def _input_gradient(c: Context, op: tuple) -> list[Launch]:
    v, dy, dx, *rest = op
    g, found = _Geometry(rest[:8]), []
    terms = g.tap_count * g.outputs
    own_panels = panels(terms, g.into, window_panel(g.into))
    for group in range(g.groups):
        geo, extent = g.words(own_panels, group, 0), (c.batch * g.size[0] * g.size[1], g.channels, terms)
        found += launches(c, input_gradient(c.T), extent, geo, (), c.arrays(dy, v, dx), c.arrays(0))
    return found


LAUNCHERS = {
    "conv.forward": _forward,
    "conv.turn_weights": _turn_weights,
    "conv.input_gradient": _input_gradient,
    "conv_weights.gradient": _weight_gradient,
}
