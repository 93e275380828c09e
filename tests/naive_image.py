"""Slow, obvious references for layers on images (rows, H, W, C). Shares no code with parnet: NumPy, loops and formulas.

All arithmetic is in float64. Gradients are made by pushing each output's gradient back to what it was made of.
"""

from __future__ import annotations

import math

import numpy as np
from naive import philox4x32

# -- windows: Dumoulin & Visin 2016, "A guide to convolution arithmetic"; "same" as TensorFlow has it -----------


def window_line(size, taps, step, dilation, padding):
    """For each window along a line, the places of its taps, None for those outside."""
    reach = (taps - 1) * dilation + 1
    if padding == "same":
        count = math.ceil(size / step)
        before = max(0, (count - 1) * step + reach - size) // 2
    else:
        count, before = (size - reach) // step + 1, 0
    places = [[o * step + t * dilation - before for t in range(taps)] for o in range(count)]
    return [[p if 0 <= p < size else None for p in window] for window in places]


def windows(shape, taps, steps, dilation, padding):
    """((output row, column), [((a, b), (row, column)) of each tap inside]) for each window of an image of (H, W)."""
    down = window_line(shape[0], taps[0], steps[0], dilation[0], padding)
    right = window_line(shape[1], taps[1], steps[1], dilation[1], padding)
    for o, rows in enumerate(down):
        for q, columns in enumerate(right):
            inside = [
                ((a, b), (h, w))
                for a, h in enumerate(rows)
                for b, w in enumerate(columns)
                if h is not None and w is not None
            ]
            yield (o, q), inside


def output_size(shape, taps, steps, dilation, padding):
    return tuple(len(window_line(*each, padding)) for each in zip(shape[:2], taps, steps, dilation, strict=True))


def depthwise(x, w, b, steps=(1, 1), dilation=(1, 1), padding="valid"):
    """x (rows, H, W, C), w (kh, kw, C, M), b (C M,) -> (rows, Ho, Wo, C M)."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    size = output_size(x.shape[1:], w.shape[:2], steps, dilation, padding)
    y = np.zeros((len(x), *size, *w.shape[2:]))
    for (o, q), inside in windows(x.shape[1:3], w.shape[:2], steps, dilation, padding):
        for tap, (h, c) in inside:
            y[:, o, q] += x[:, h, c, :, None] * w[tap]
    return y.reshape(*y.shape[:3], -1) + np.asarray(b, np.float64)


def depthwise_gradients(x, w, dy, steps=(1, 1), dilation=(1, 1), padding="valid"):
    """dx, dw, db."""
    x, w, dy = (np.asarray(v, np.float64) for v in (x, w, dy))
    slope = dy.reshape(*dy.shape[:3], *w.shape[2:])
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for (o, q), inside in windows(x.shape[1:3], w.shape[:2], steps, dilation, padding):
        for tap, (h, c) in inside:
            dx[:, h, c] += (slope[:, o, q] * w[tap]).sum(-1)
            dw[tap] += (x[:, h, c, :, None] * slope[:, o, q]).sum(0)
    return dx, dw, dy.sum((0, 1, 2))


def convolution(x, w, b, steps=(1, 1), dilation=(1, 1), padding="valid", groups=1):
    """x (rows, H, W, C), w (kh, kw, C / groups, F), b (F,) -> y (rows, Ho, Wo, F); group g of F reads group g of C."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    deep, wide = w.shape[2], w.shape[3] // groups
    y = np.zeros((len(x), *output_size(x.shape[1:], w.shape[:2], steps, dilation, padding), w.shape[3]))
    for (o, q), inside in windows(x.shape[1:3], w.shape[:2], steps, dilation, padding):
        for tap, (h, c) in inside:
            for g in range(groups):
                f = slice(g * wide, g * wide + wide)
                y[:, o, q, f] += x[:, h, c, g * deep : g * deep + deep] @ w[tap][:, f]
    return y + np.asarray(b, np.float64)


def convolution_gradients(x, w, dy, steps=(1, 1), dilation=(1, 1), padding="valid", groups=1):
    """dx, dw, db."""
    x, w, dy = (np.asarray(v, np.float64) for v in (x, w, dy))
    deep, wide = w.shape[2], w.shape[3] // groups
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for (o, q), inside in windows(x.shape[1:3], w.shape[:2], steps, dilation, padding):
        for tap, (h, c) in inside:
            for g in range(groups):
                d, f = slice(g * deep, g * deep + deep), slice(g * wide, g * wide + wide)
                dx[:, h, c, d] += dy[:, o, q, f] @ w[tap][:, f].T
                dw[tap][:, f] += x[:, h, c, d].T @ dy[:, o, q, f]
    return dx, dw, dy.sum((0, 1, 2))


def largest_pool(x, taps, steps, padding):
    """The largest number of each window and which tap it is, the first of equal ones; NaN is larger than all."""
    shape = (len(x), *output_size(x.shape[1:], taps, steps, (1, 1), padding), x.shape[3])
    y, where = np.zeros(shape), np.zeros(shape)
    for (o, q), inside in windows(x.shape[1:3], taps, steps, (1, 1), padding):
        seen = np.array([x[:, h, w] for _, (h, w) in inside], np.float64)
        first = np.where(np.isnan(seen), np.inf, seen).argmax(0)
        y[:, o, q] = np.take_along_axis(seen, first[None], 0)[0]
        where[:, o, q] = np.array([a * taps[1] + b for (a, b), _ in inside])[first]
    return y, where


def largest_pool_gradient(shape, where, dy, taps, steps, padding):
    dx = np.zeros(shape)
    for (o, q), inside in windows(shape[1:3], taps, steps, (1, 1), padding):
        for (a, b), (h, w) in inside:
            dx[:, h, w] += np.where(where[:, o, q] == a * taps[1] + b, np.asarray(dy[:, o, q], np.float64), 0)
    return dx


def average_pool(x, taps, steps, padding):
    """The mean of what each window has inside of the image."""
    y = np.zeros((len(x), *output_size(x.shape[1:], taps, steps, (1, 1), padding), x.shape[3]))
    for (o, q), inside in windows(x.shape[1:3], taps, steps, (1, 1), padding):
        y[:, o, q] = np.mean([np.asarray(x[:, h, w], np.float64) for _, (h, w) in inside], axis=0)
    return y


def average_pool_gradient(shape, dy, taps, steps, padding):
    dx = np.zeros(shape)
    for (o, q), inside in windows(shape[1:3], taps, steps, (1, 1), padding):
        for _, (h, w) in inside:
            dx[:, h, w] += np.asarray(dy[:, o, q], np.float64) / len(inside)
    return dx


# -- enlarging --------------------------------------------------------------------------------


def enlarging(n, times, interpolation):
    """(n times, n) matrix: how much each pixel of a line counts in each of the enlarged line."""
    matrix = np.zeros((n * times, n))
    for i in range(n * times):
        if interpolation == "nearest":
            matrix[i, i // times] = 1
            continue
        place = min(max((i + 0.5) / times - 0.5, 0.0), n - 1.0)
        first = min(int(place), n - 1)
        matrix[i, first] += 1 - (place - first)
        if first + 1 < n:
            matrix[i, first + 1] += place - first
    return matrix


def upsample(x, size, interpolation):
    down, right = (enlarging(n, s, interpolation) for n, s in zip(x.shape[1:3], size, strict=True))
    return np.einsum("ih,jw,nhwc->nijc", down, right, np.asarray(x, np.float64))


def upsample_gradient(shape, dy, size, interpolation):
    down, right = (enlarging(n, s, interpolation) for n, s in zip(shape[1:3], size, strict=True))
    return np.einsum("ih,jw,nijc->nhwc", down, right, np.asarray(dy, np.float64))


# -- layer normalisation: Ba, Kiros & Hinton 2016 -------------------------------------------------------


def layer_norm(x, gamma, beta, epsilon):
    """y, mean, 1 / sqrt(variance + epsilon) over the last axis."""
    x = np.asarray(x, np.float64)
    mean, inverse = x.mean(-1), 1 / np.sqrt(x.var(-1) + epsilon)
    return (x - mean[..., None]) * inverse[..., None] * gamma + beta, mean, inverse


def layer_norm_gradients(x, gamma, dy, epsilon):
    """dx, dgamma, dbeta; dx by the Jacobian of each position."""
    _, mean, inverse = layer_norm(x, gamma, 0.0, epsilon)
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    n = x.shape[-1]
    h = (x - mean[..., None]) * inverse[..., None]
    dx = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        jacobian = inverse[place] * (np.eye(n) - 1 / n - np.outer(h[place], h[place]) / n)
        dx[place] = jacobian.T @ (dy[place] * gamma)
    axes = tuple(range(x.ndim - 1))
    return dx, (dy * h).sum(axes), dy.sum(axes)


# -- augmentation: one sample at a time, (H, W, C) ------------------------------------------------------


def draws(sample, epoch, layer, seed, k=0):
    """The four words that decide about a sample."""
    return philox4x32((k, int(sample), epoch, layer), (seed & 0xFFFFFFFF, seed >> 32))


def fraction(word):
    return (int(word) + 0.5) / 2**32


def between(limits, word):
    return limits[0] + (limits[1] - limits[0]) * fraction(word)


def flip(image, words, across, down):
    image = image[:, ::-1] if across and words[0] & 1 else image
    return image[::-1] if down and words[1] & 1 else image


def corner(size, out, words):
    """Where the part of a crop begins."""
    return tuple(int(word) * (n - m + 1) >> 32 for n, m, word in zip(size, out, words, strict=False))


def patch(size, factor, scale, one, two):
    """Rows and columns that are erased, as a mask (H, W)."""
    mask = np.zeros(size, bool)
    if fraction(one[1]) < between(factor, one[0]):
        lengths = [math.sqrt(between(scale, word)) * n for word, n in zip(one[2:], size, strict=True)]
        first = [fraction(word) * (n - length) for word, n, length in zip(two, size, lengths, strict=False)]
        rows, columns = (
            [i for i in range(n) if f <= i < f + length] for n, f, length in zip(size, first, lengths, strict=True)
        )
        mask[np.ix_(rows, columns)] = True
    return mask


def beyond(i, n, fill):
    """Which pixel of n stands at place i, None for the fill value: by walking there."""
    if 0 <= i < n:
        return i
    if fill == "constant":
        return None
    line = {"reflect": [*range(n), *range(n - 1, -1, -1)], "wrap": list(range(n)), "nearest": None}[fill]
    if line is None:
        return 0 if i < 0 else n - 1
    return line[i % len(line)]


def moving(size, matrix, fill, interpolation):
    """How much each pixel counts in each pixel of the moved image: (H W, H W), and how much the fill value does: (H W,).

    matrix (2, 3): (h, w, 1) of the output to (h, w) of the input.
    """
    height, width = size
    counts, outside = np.zeros((height * width, height * width)), np.zeros(height * width)
    for h in range(height):
        for w in range(width):
            y, x = matrix @ [h, w, 1.0]
            if interpolation == "nearest":
                y, x = np.rint(y), np.rint(x)
            top, left = math.floor(y), math.floor(x)
            for i, v in ((top, 1 - (y - top)), (top + 1, y - top)):
                for j, u in ((left, 1 - (x - left)), (left + 1, x - left)):
                    a, b = beyond(i, height, fill), beyond(j, width, fill)
                    if a is None or b is None:
                        outside[h * width + w] += v * u
                    else:
                        counts[h * width + w, a * width + b] += v * u
    return counts, outside


def shift_matrix(size, down, right):
    """Content moves down and to the right by parts of height and width."""
    return np.array([[1.0, 0.0, -down * size[0]], [0.0, 1.0, -right * size[1]]])


def turn_matrix(size, turns):
    """Content turns counter-clockwise about the middle."""
    cosine, sine = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    return np.array([[cosine, sine, y - cosine * y - sine * x], [-sine, cosine, x + sine * y - cosine * x]])
