"""Images changed at random, with the CPU's random numbers; as `parnet/kernels/augment.py`, a thread a number. Stage: cuda.

The gradient of a shift or turn is summed by a thread a channel of an image: the pixels that a number went to, in rising
order.
"""

from __future__ import annotations

import math
from functools import cache, partial

from ..kernels.control import ROWS
from ..kernels.step import row_stride
from .launch import Context, Fed, Launch, float_of, lower, upper
from .noise import draw
from .runtime import cuda

CONSTANT, REFLECT, WRAP, NEAREST = 0, 1, 2, 3
#: bits of the way in which images are flipped
ACROSS, DOWN = 1, 2


@cuda.jit(device=True)
def fraction(word):
    """A random word as a float64 above 0 and below 1."""
    return (word + 0.5) * 2.0**-32


@cache
def flip(T):
    """y = x, mirrored or not."""

    @cuda.jit
    def run(ctl, geo, par, x, y, order):
        height, width, channels, ways, layer, row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            words = draw(ctl, order, image, 0, layer)
            for j in range(j0, height * width * channels, across):
                h, w, c = j // channels // width, j // channels % width, j % channels
                if ways & DOWN and words[1] & 1:
                    h = height - 1 - h
                if ways & ACROSS and words[0] & 1:
                    w = width - 1 - w
                y[image * row + j] = x[image * row + (h * width + w) * channels + c]

    return run


@cache
def crop(T, back: bool):
    """y = a part of x anywhere in it; back: the gradient, zeros around it."""

    @cuda.jit
    def run(ctl, geo, par, source, target, order):
        height, width, out_height, out_width, channels, layer, x_row, y_row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        size = (height * width if back else out_height * out_width) * channels
        for image in range(image0, ctl[ROWS], down):
            words = draw(ctl, order, image, 0, layer)
            below = words[0] * (height - out_height + 1) >> 32
            right = words[1] * (width - out_width + 1) >> 32
            for j in range(j0, size, across):
                pixel, c = j // channels, j % channels
                if back:
                    h, w = pixel // width - below, pixel % width - right
                    inside = h >= 0 and h < out_height and w >= 0 and w < out_width
                    spot = image * y_row + (h * out_width + w) * channels + c
                    target[image * x_row + j] = source[spot] if inside else T(0)
                else:
                    h, w = pixel // out_width + below, pixel % out_width + right
                    target[image * y_row + j] = source[image * x_row + (h * width + w) * channels + c]

    return run


@cuda.jit(device=True)
def patch(ctl, order, numbers, height, width, layer, image):
    """What is erased of an image: first row and column, and those behind the last; nothing if the image is spared."""
    one, two = draw(ctl, order, image, 0, layer), draw(ctl, order, image, 1, layer)
    chance = numbers[0] + (numbers[1] - numbers[0]) * fraction(one[0])
    if not fraction(one[1]) < chance:
        return 0, 0, 0, 0
    least, most = numbers[2], numbers[3]
    tall = math.sqrt(least + (most - least) * fraction(one[2])) * height
    wide = math.sqrt(least + (most - least) * fraction(one[3])) * width
    top, left = fraction(two[0]) * (height - tall), fraction(two[1]) * (width - wide)
    return int(math.ceil(top)), int(math.ceil(left)), int(math.ceil(top + tall)), int(math.ceil(left + wide))  # noqa: RUF046  a float on a GPU


@cuda.jit(device=True)
def noise_value(ctl, order, image, j, layer):
    """A normal number for number j of an image (Box & Muller 1958)."""
    words = draw(ctl, order, image, 2 + (j >> 1), layer)
    far, angle = math.sqrt(-2.0 * math.log(fraction(words[0]))), 2.0 * math.pi * fraction(words[1])
    return far * (math.sin(angle) if j & 1 else math.cos(angle))


@cache
def erase(T, back: bool):
    """y = x with a rectangle painted over; back: dy = 0 there, in place. par: chances, areas, fill, range of the noise."""

    @cuda.jit
    def run(ctl, geo, par, x, y, order):
        height, width, channels, layer, row, noisy = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            top, left, bottom, right = patch(ctl, order, par, height, width, layer, image)
            for j in range(j0, height * width * channels, across):
                h, w = j // channels // width, j // channels % width
                inside = h >= top and h < bottom and w >= left and w < right
                if back:
                    if inside:
                        y[image * row + j] = T(0)
                    continue
                value = x[image * row + j]
                if inside:
                    value = par[4]
                    if noisy:
                        value = T(noise_value(ctl, order, image, j, layer)) * par[6]
                        value = min(max(value, par[5]), par[6])
                y[image * row + j] = value

    return run


@cuda.jit(device=True)
def wave(turns):
    """Cosine and sine of so many turns: exact at quarters, and as on the CPU."""
    quarter = round(4.0 * turns)
    r = (turns - 0.25 * quarter) * (2.0 * math.pi)
    sine, cosine, term = 0.0, 0.0, 1.0
    for k in range(0, 20, 2):
        cosine += term
        term *= r / (k + 1)
        sine += term
        term *= -r / (k + 2)
    place = int(quarter) & 3
    if place == 0:
        return cosine, sine
    if place == 1:
        return -sine, cosine
    if place == 2:
        return -cosine, -sine
    return sine, -cosine


@cuda.jit(device=True)
def way(ctl, order, numbers, height, width, layer, turn, image):
    """Where output pixel (h, w) comes from: (a h + b w + c, -b h + a w + d)."""
    words = draw(ctl, order, image, 0, layer)
    first = numbers[0] + (numbers[1] - numbers[0]) * fraction(words[0])
    if turn:
        cosine, sine = wave(first)
        y, x = (height - 1) / 2, (width - 1) / 2
        return cosine, sine, y - cosine * y - sine * x, x + sine * y - cosine * x
    right = numbers[2] + (numbers[3] - numbers[2]) * fraction(words[1])
    return 1.0, 0.0, -first * height, -right * width


@cuda.jit(device=True)
def inside_of(i, n, fill):
    """Which pixel of n stands at place i; -1 for the fill value."""
    if i >= 0 and i < n:
        return i
    if fill == CONSTANT:
        return -1
    if fill == NEAREST:
        return 0 if i < 0 else n - 1
    if fill == WRAP:
        return i % n
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


@cuda.jit(device=True)
def corner(height, width, fill, y, x, k):
    """Corner k of the four about (y, x): its pixel, or -1 for the fill value, and how much it counts."""
    top, left = math.floor(y), math.floor(x)
    v, u = y - top, x - left
    i, j = inside_of(int(top) + (k >> 1), height, fill), inside_of(int(left) + (k & 1), width, fill)
    factor = (v if k >> 1 else 1.0 - v) * (u if k & 1 else 1.0 - u)
    return (-1 if i < 0 or j < 0 else i * width + j), factor


@cuda.jit(device=True)
def source(a, b, c, d, h, w, nearest):
    """Where output pixel (h, w) comes from."""
    y, x = a * h + b * w + c, a * w - b * h + d
    if nearest:
        return float(round(y)), float(round(x))
    return y, x


@cache
def warp(T):
    """y = x, shifted or turned."""

    @cuda.jit
    def run(ctl, geo, par, x, y, order):
        height, width, channels, layer, turn, mode, row = geo
        j0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            a, b, c, d = way(ctl, order, par, height, width, layer, turn, image)
            for j in range(j0, height * width * channels, across):
                pixel, channel = j // channels, j % channels
                at_y, at_x = source(a, b, c, d, pixel // width, pixel % width, mode >> 2)
                total, outside = T(0), 0.0
                for k in range(4):
                    place, factor = corner(height, width, mode & 3, at_y, at_x, k)
                    if place < 0:
                        outside += factor
                    else:
                        total += T(factor) * x[image * row + place * channels + channel]
                y[image * row + j] = total + par[4] * T(outside)

    return run


@cache
def warp_gradient(T):
    """dx: each dy goes to the pixels it was made of."""

    @cuda.jit
    def run(ctl, geo, par, dy, dx, order):
        height, width, channels, layer, turn, mode, row = geo
        c0, image0 = cuda.grid(2)
        across, down = cuda.gridsize(2)
        for image in range(image0, ctl[ROWS], down):
            a, b, c, d = way(ctl, order, par, height, width, layer, turn, image)
            for channel in range(c0, channels, across):
                for p in range(height * width):
                    dx[image * row + p * channels + channel] = T(0)
                for p in range(height * width):
                    at_y, at_x = source(a, b, c, d, p // width, p % width, mode >> 2)
                    for k in range(4):
                        place, factor = corner(height, width, mode & 3, at_y, at_x, k)
                        if place >= 0:
                            given = dy[image * row + p * channels + channel]
                            dx[image * row + place * channels + channel] += T(factor) * given

    return run


def _flip(c: Context, op: tuple) -> list[Launch]:
    x, y, size, channels, ways, layer = op
    count = upper(size) * lower(size) * channels
    geo = (upper(size), lower(size), channels, ways, layer, row_stride(count))
    return [c.plane(flip(c.T), count, geo, (), *c.arrays(x, y), Fed("order"))]


def _crop(back: bool, c: Context, op: tuple) -> list[Launch]:
    x, y, size, out, channels, layer = op
    before, after = upper(size) * lower(size) * channels, upper(out) * lower(out) * channels
    geo = (upper(size), lower(size), upper(out), lower(out), channels, layer, row_stride(before), row_stride(after))
    return [c.plane(crop(c.T, back), before if back else after, geo, (), *c.arrays(x, y), Fed("order"))]


def _erase(back: bool, c: Context, op: tuple) -> list[Launch]:
    x, y, size, channels, layer, *rest = op
    numbers = [float_of(word) for word in rest[:4]]
    noisy = 0
    if back:
        y = x
    else:
        noisy = rest[5]
        numbers += [float_of(rest[4]), float_of(rest[6]), float_of(rest[7])]
    count = upper(size) * lower(size) * channels
    geo = (upper(size), lower(size), channels, layer, row_stride(count), noisy)
    return [c.plane(erase(c.T, back), count, geo, (*numbers, *[0.0] * (7 - len(numbers))), *c.arrays(x, y), Fed("order"))]


def _warp(make, c: Context, op: tuple) -> list[Launch]:
    x, y, size, channels, layer, turn, mode, *rest = op
    count, par = upper(size) * lower(size) * channels, [float_of(word) for word in rest]
    geo = (upper(size), lower(size), channels, layer, turn, mode, row_stride(count))
    width = count if make is warp else channels
    return [c.plane(make(c.T), width, geo, par, *c.arrays(x, y), Fed("order"))]


LAUNCHERS = {
    "augment.flip": _flip,
    "augment.crop": partial(_crop, False),
    "augment.crop_gradient": partial(_crop, True),
    "augment.erase": partial(_erase, False),
    "augment.erase_gradient": partial(_erase, True),
    "augment.warp": partial(_warp, warp),
    "augment.warp_gradient": partial(_warp, warp_gradient),
}
