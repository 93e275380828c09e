"""Images changed at random, each sample by itself: flipped, shifted, turned, cut out, erased. Stage: kernels.

What happens to sample i of epoch e is made of `noise.philox` of (k, i, e, layer) under the seed, as dropout is: the same for
any thread, worker or batch size. Draw k = 0 decides about the whole image; the noise that `erase` paints takes k = 1, 2, ...

Where a shifted or turned image takes numbers from beyond its edge, `fill` decides: CONSTANT (a value), REFLECT (d c b a |
a b c d | d c b a), WRAP (a b c d | a b c d | a b c d), NEAREST (a a a a | a b c d | d d d d). Must not know: layers.
"""

from __future__ import annotations

import math

from .control import EPOCH, ROWS, SCRATCH, SEED
from .declare import device, kernel
from .gather import source_row
from .intrinsics import at, float_word, int64_at, like, pointer_at, rint
from .noise import MASK, philox
from .share import cut, pixels_of, stride_of
from .step import high, low

CONSTANT, REFLECT, WRAP, NEAREST = 0, 1, 2, 3
#: bits of the way in which images are flipped
ACROSS, DOWN = 1, 2
upper, lower = device(high), device(low)


@device
def draw(ctl, i, k, layer):
    """Four random 32-bit words for row i of the batch."""
    return philox(k, source_row(ctl, i) & MASK, ctl[EPOCH] & MASK, layer, ctl[SEED] & MASK, (ctl[SEED] >> 32) & MASK)


@device
def fraction(word):
    """A random word as a float64 above 0 and below 1."""
    return (word + 0.5) * 2.0**-32


@device
def below(word, n):
    """A random word as one of 0..n-1."""
    return word * n >> 32


@device
def copy(n, x, y):
    """y[:n] = x[:n]."""
    for c in range(n):
        y[c] = x[c]


@device
def clear(n, y):
    """y[:n] = 0."""
    for c in range(n):
        y[c] = like(y, 0)


# -- flip and crop ----------------------------------------------------------------------------


@device
def place_of(m, pixels, width, last):
    """Pixel m of all images: its image, its line and column, and the column behind the last that is done with it."""
    image = m // pixels
    h = (m - image * pixels) // width
    w = m - image * pixels - h * width
    return image, h, w, min(width, w + last - m)


@kernel
def flip(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, H, W, C) written, mirrored or not; its own gradient.

    op: x, y, (H, W), C, ways (ACROSS, DOWN), layer.   Owner: pixels of y.
    """
    height, width, channels, pixels = upper(op[2]), lower(op[2]), op[3], upper(op[2]) * lower(op[2])
    row = stride_of(pixels * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, width, last)
        words = draw(ctl, image, 0, op[5])
        line = height - 1 - h if op[4] & DOWN and words[1] & 1 else h
        x = at(mem, op[0] + image * row + line * width * channels)
        y = at(mem, op[1] + image * row + h * width * channels)
        if op[4] & ACROSS and words[0] & 1:
            for w in range(w0, w1):
                copy(channels, at(x, (width - 1 - w) * channels), at(y, w * channels))
        else:
            copy((w1 - w0) * channels, at(x, w0 * channels), at(y, w0 * channels))
        m += w1 - w0


@device
def corner(op, ctl, image):
    """Where the part of an image that stays begins: (pixels down, pixels right)."""
    words = draw(ctl, image, 0, op[5])
    return (
        below(words[0], upper(op[2]) - upper(op[3]) + 1),
        below(words[1], lower(op[2]) - lower(op[3]) + 1),
    )


@kernel
def crop(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, Hy, Wy, C) written, a part of x anywhere in it.

    op: x, y, (H, W), (Hy, Wy), C, layer.   Owner: pixels of y.
    """
    width, out_width, channels = lower(op[2]), lower(op[3]), op[4]
    pixels = upper(op[3]) * out_width
    x_row, y_row = stride_of(upper(op[2]) * width * channels), stride_of(pixels * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, out_width, last)
        down, right = corner(op, ctl, image)
        x = at(mem, op[0] + image * x_row + ((h + down) * width + w0 + right) * channels)
        copy((w1 - w0) * channels, x, at(mem, op[1] + image * y_row + (h * out_width + w0) * channels))
        m += w1 - w0


@kernel
def crop_gradient(op, ctl, mem, part, parts):
    """dy (rows, Hy, Wy, C) -> dx (rows, H, W, C) written, zeros around it.

    op: dy, dx, (H, W), (Hy, Wy), C, layer.   Owner: pixels of dx.
    """
    width, out_height, out_width, channels = lower(op[2]), upper(op[3]), lower(op[3]), op[4]
    pixels = upper(op[2]) * width
    dx_row, dy_row = stride_of(pixels * channels), stride_of(out_height * out_width * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, width, last)
        down, right = corner(op, ctl, image)
        dx = at(mem, op[1] + image * dx_row + h * width * channels)
        clear((w1 - w0) * channels, at(dx, w0 * channels))
        left, end = max(w0, right), min(w1, right + out_width)
        if down <= h < down + out_height and left < end:
            dy = at(mem, op[0] + image * dy_row + ((h - down) * out_width + left - right) * channels)
            copy((end - left) * channels, dy, at(dx, left * channels))
        m += w1 - w0


# -- erase ------------------------------------------------------------------------------------


@device
def patch(op, ctl, mem, image):
    """What is erased of an image: first row and column, and those behind the last; nothing if the image is spared."""
    height, width, one, two = upper(op[2]), lower(op[2]), draw(ctl, image, 0, op[4]), draw(ctl, image, 1, op[4])
    least, most = float_word(mem, op[5]), float_word(mem, op[6])
    chance = least + (most - least) * fraction(one[0])
    if not fraction(one[1]) < chance:
        return 0, 0, 0, 0
    least, most = float_word(mem, op[7]), float_word(mem, op[8])
    tall = math.sqrt(least + (most - least) * fraction(one[2])) * height
    wide = math.sqrt(least + (most - least) * fraction(one[3])) * width
    top, left = fraction(two[0]) * (height - tall), fraction(two[1]) * (width - wide)
    return math.ceil(top), math.ceil(left), math.ceil(top + tall), math.ceil(left + wide)


@device
def noise_value(ctl, image, j, layer):
    """A normal number for number j of an image (Box & Muller 1958)."""
    words = draw(ctl, image, 2 + (j >> 1), layer)
    far, angle = math.sqrt(-2.0 * math.log(fraction(words[0]))), 2.0 * math.pi * fraction(words[1])
    return far * (math.sin(angle) if j & 1 else math.cos(angle))


@kernel
def erase(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, H, W, C) written, a rectangle of it painted over.

    op: x, y, (H, W), C, layer, chance (least, most), area (least, most), fill value, noise (0, 1), range (least, most); of
    the noise, normal numbers times the range's end, only what lies in the range stays.   Owner: pixels of y.
    """
    width, channels, pixels, layer, fill = lower(op[2]), op[3], upper(op[2]) * lower(op[2]), op[4], float_word(mem, op[9])
    row, least, most = stride_of(pixels * channels), float_word(mem, op[11]), float_word(mem, op[12])
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, width, last)
        top, left, bottom, right = patch(op, ctl, mem, image)
        spot = image * row + h * width * channels
        x, y = at(mem, op[0] + spot), at(mem, op[1] + spot)
        copy((w1 - w0) * channels, at(x, w0 * channels), at(y, w0 * channels))
        if top <= h < bottom:
            for j in range(max(w0, left) * channels, min(w1, right) * channels):
                if op[10]:
                    value = like(mem, noise_value(ctl, image, h * width * channels + j, layer)) * most
                    y[j] = min(max(value, least), most)
                else:
                    y[j] = fill
        m += w1 - w0


@kernel
def erase_gradient(op, ctl, mem, part, parts):
    """dy (rows, H, W, C) = 0 where the image was erased.

    op: dy, 0, (H, W), C, layer, chance (least, most), area (least, most).   Owner: pixels.
    """
    width, channels, pixels = lower(op[2]), op[3], upper(op[2]) * lower(op[2])
    row = stride_of(pixels * channels)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, width, last)
        top, left, bottom, right = patch(op, ctl, mem, image)
        left, right = max(w0, left), min(w1, right)
        if top <= h < bottom and left < right:
            clear((right - left) * channels, at(mem, op[0] + image * row + (h * width + left) * channels))
        m += w1 - w0


# -- shift and turn ---------------------------------------------------------------------------


@device
def wave(turns):
    """Cosine and sine of so many turns: exact at quarters, on any processor the same."""
    quarter = rint(4.0 * turns)
    r = (turns - 0.25 * quarter) * (2.0 * math.pi)
    sine, cosine, term = 0.0, 0.0, 1.0
    for k in range(0, 20, 2):  # |r| < 0.8: the next term of the series is below 1e-20
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


@device
def way(op, ctl, mem, image):
    """Where output pixel (h, w) comes from: (a h + b w + c, -b h + a w + d)."""
    height, width, words = upper(op[2]), lower(op[2]), draw(ctl, image, 0, op[4])
    one, two = float_word(mem, op[7]), float_word(mem, op[8])
    first = one + (two - one) * fraction(words[0])
    if op[5]:
        cosine, sine = wave(first)
        y, x = (height - 1) / 2, (width - 1) / 2
        return cosine, sine, y - cosine * y - sine * x, x + sine * y - cosine * x
    one, two = float_word(mem, op[9]), float_word(mem, op[10])
    return 1.0, 0.0, -first * height, -(one + (two - one) * fraction(words[1])) * width


@device
def inside(i, n, fill):
    """Which pixel of n stands at place i; -1 for the fill value."""
    if 0 <= i < n:
        return i
    if fill == CONSTANT:
        return -1
    if fill == NEAREST:
        return 0 if i < 0 else n - 1
    if fill == WRAP:
        return i % n
    i %= 2 * n
    return i if i < n else 2 * n - 1 - i


@device
def sources(op, mem, h, w, a, b, c, d, places, factors):
    """The pixels that output pixel (h, w) is made of, and how much they count. Returns how much the fill value does."""
    height, width, fill = upper(op[2]), lower(op[2]), op[6] & 3
    y, x = a * h + b * w + c, a * w - b * h + d
    if op[6] >> 2:  # the nearest pixel alone
        y, x = rint(y), rint(x)
    top, left = math.floor(y), math.floor(x)
    v, u, outside = y - top, x - left, 0.0
    for k in range(4):
        i, j = inside(int(top) + (k >> 1), height, fill), inside(int(left) + (k & 1), width, fill)
        factor = (v if k >> 1 else 1.0 - v) * (u if k & 1 else 1.0 - u)
        if i < 0 or j < 0:
            outside += factor
            places[k], factors[k] = 0, like(mem, 0)
        else:
            places[k], factors[k] = i * width + j, like(mem, factor)
    return outside


@kernel
def warp(op, ctl, mem, part, parts):
    """x (rows, H, W, C) -> y (rows, H, W, C) written, shifted or turned.

    op: x, y, (H, W), C, layer, turn (0: shift), fill + 4 (nearest pixel), turns or rows / H (least, most), columns / W
    (least, most), fill value.   Owner: pixels of y.
    """
    width, channels, pixels, value = lower(op[2]), op[3], upper(op[2]) * lower(op[2]), float_word(mem, op[11])
    row, places = stride_of(pixels * channels), int64_at(ctl[SCRATCH])
    factors = pointer_at(mem, ctl[SCRATCH] + 4 * 8)
    m, last = pixels_of(ctl[ROWS], pixels, channels, part, parts)
    while m < last:
        image, h, w0, w1 = place_of(m, pixels, width, last)
        a, b, c, d = way(op, ctl, mem, image)
        x = at(mem, op[0] + image * row)
        for w in range(w0, w1):
            more = value * like(mem, sources(op, mem, h, w, a, b, c, d, places, factors))
            y = at(mem, op[1] + image * row + (h * width + w) * channels)
            x0, x1 = at(x, places[0] * channels), at(x, places[1] * channels)
            x2, x3 = at(x, places[2] * channels), at(x, places[3] * channels)
            f0, f1, f2, f3 = factors[0], factors[1], factors[2], factors[3]
            for j in range(channels):
                y[j] = (f0 * x0[j] + f1 * x1[j]) + (f2 * x2[j] + f3 * x3[j]) + more
        m += w1 - w0


@kernel
def warp_gradient(op, ctl, mem, part, parts):
    """dy (rows, H, W, C) -> dx (rows, H, W, C) written: each dy goes to the pixels it was made of, in rising order.

    op: dy, dx, and the rest as `warp`.   Owner: images.
    """
    width, channels, pixels = lower(op[2]), op[3], upper(op[2]) * lower(op[2])
    row, places = stride_of(pixels * channels), int64_at(ctl[SCRATCH])
    factors = pointer_at(mem, ctl[SCRATCH] + 4 * 8)
    first, last = cut(ctl[ROWS], 1, part, parts)
    for image in range(first, last):
        a, b, c, d = way(op, ctl, mem, image)
        dx = at(mem, op[1] + image * row)
        clear(pixels * channels, dx)
        for p in range(pixels):
            sources(op, mem, p // width, p % width, a, b, c, d, places, factors)
            dy = at(mem, op[0] + image * row + p * channels)
            for k in range(4):
                out, factor = at(dx, places[k] * channels), factors[k]
                for j in range(channels):
                    out[j] += factor * dy[j]
