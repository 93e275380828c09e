"""Convolutions: the three products of a window are right, cut in any way, inside their buffers."""

import itertools

import naive_image as naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check

from parnet.kernels import control
from parnet.kernels.conv import BIAS, NORM, OTHER, RELU
from parnet.kernels.step import PANELS, image_share, pair

#: rows, height, width, channels and filters of a group, groups, taps, steps, dilation, padding
WINDOWS = [
    (2, 5, 6, 3, 4, 1, (3, 3), (1, 1), (1, 1), "valid"),
    (1, 6, 7, 5, 50, 1, (3, 3), (1, 1), (1, 1), "same"),
    (3, 7, 9, 2, 17, 1, (3, 2), (2, 3), (1, 1), "same"),
    (2, 4, 5, 33, 64, 1, (1, 1), (1, 1), (1, 1), "valid"),
    (2, 7, 5, 6, 130, 1, (1, 1), (2, 2), (1, 1), "valid"),
    (1, 9, 8, 3, 5, 2, (3, 3), (1, 1), (2, 2), "same"),
    (2, 3, 3, 2, 30, 3, (2, 2), (1, 1), (1, 1), "same"),
    (1, 1, 1, 1, 1, 1, (3, 3), (1, 1), (1, 1), "same"),
    (1, 3, 12, 800, 7, 1, (1, 2), (1, 1), (1, 1), "valid"),
    (1, 10, 3, 4, 65, 1, (1, 3), (3, 1), (1, 1), "valid"),
]
#: more than any of these windows needs: a check of its own finds what a layer asks for too little
SCRATCH = 20_000
EPSILON = 0.01


class Convolution:
    """Numbers for one window, and the words that kernels read of it."""

    def __init__(self, rng, dtype, window):
        self.rows, height, width, deep, wide, groups, taps, steps, dilation, padding = window
        self.how, self.dtype, self.groups = (steps, dilation, padding, groups), dtype, groups
        self.x = rng.normal(size=(self.rows, height, width, deep * groups)).astype(dtype)
        self.w = rng.normal(size=(*taps, deep, wide * groups)).astype(dtype)
        self.b = rng.normal(size=wide * groups).astype(dtype)
        size = naive.output_size((height, width), taps, steps, dilation, padding)
        self.dy = rng.normal(size=(self.rows, *size, wide * groups)).astype(dtype)
        before = [max(0, (o - 1) * s + (t - 1) * d + 1 - n) // 2 if padding == "same" else 0
                  for n, o, t, s, d in zip((height, width), size, taps, steps, dilation, strict=True)]  # fmt: skip
        after = (size[1] - 1) * steps[1] + (taps[1] - 1) * dilation[1] + 1 - before[1] - width
        self.merged = groups == 1 and dilation[1] == 1 and before[1] == 0 and after <= 0
        self.sum_length = taps[0] * taps[1] * deep
        self.places = [pair(height, width), pair(*size), pair(deep, wide), pair(*taps)]
        self.way = [pair(*dilation), pair(*steps), pair(*before)]

    def words(self, merged):
        return (*self.places, pair(self.groups, int(merged)), *self.way)

    def case(self, kernel, arrays, operands, expected, **more):
        names = tuple(name for name in arrays if name in ("w", "dw", "turned"))
        vectors = tuple(name for name in arrays if name in ("b", "db"))
        return Case(
            kernel,
            self.rows,
            arrays,
            operands,
            expected,
            weights=names + vectors,
            window_weights=names,
            scratch=SCRATCH,
            **more,
        )


def flat(images):
    """Images as the rows that they lie in."""
    return images.reshape(len(images), -1)


def finished(rng, dtype, conv, flags):
    """What a forward pass with these flags leaves, and the arrays that its ends read."""
    filters = conv.w.shape[-1]
    y = naive.convolution(conv.x, conv.w, conv.b if flags & BIAS else 0 * conv.b, *conv.how)
    gamma, beta, mean = rng.normal(size=(3, filters)).astype(dtype)
    variance = rng.uniform(0.5, 2, size=filters).astype(dtype)
    if flags & NORM:
        y = gamma * (y - mean) / np.sqrt(variance + EPSILON) + beta
    y = y + conv.dy if flags & OTHER else y
    y = np.maximum(y, 0) if flags & RELU else y
    arrays = {"x": flat(conv.x), "y": blank(flat(y).shape, dtype), "b": conv.b, "other": flat(conv.dy)}
    return flat(y), arrays | {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}


def forward(rng, dtype, window=WINDOWS[1], flags=BIAS, share=None, block=16):
    conv = Convolution(rng, dtype, window)
    y, arrays = finished(rng, dtype, conv, flags)
    share = image_share(conv.w.shape[-1]) if share is None else share
    operands = ("x", "w", "y", "b", "other", flags, *conv.words(conv.merged), share, block)
    operands += ("gamma", "beta", "mean", "variance", EPSILON)
    return conv.case("conv.forward", arrays | {"w": conv.w}, operands, {"y": (y, conv.sum_length, 10.0 * conv.sum_length)})


def turn_weights(rng, dtype, window=WINDOWS[6]):
    conv = Convolution(rng, dtype, window)
    kh, kw, deep, wide = conv.w.shape
    blocks = np.split(conv.w.reshape(kh * kw, deep, wide), conv.groups, axis=2)
    turned = np.concatenate([block.transpose(0, 2, 1).reshape(-1, deep) for block in blocks], axis=1)
    arrays = {"w": conv.w, "turned": np.zeros(turned.shape, dtype)}
    operands = ("w", "turned", kh * kw, deep, wide // conv.groups, conv.groups)
    return conv.case("conv.turn_weights", arrays, operands, {"turned": (turned, 0, 0)})


def input_gradient(rng, dtype, window=WINDOWS[2], share=None, block=16):
    conv = Convolution(rng, dtype, window)
    turned = turn_weights(np.random.default_rng(0), dtype, window).arrays["turned"]
    kh, kw, deep, wide = conv.w.shape
    blocks = np.split(conv.w.reshape(kh * kw, deep, wide), conv.groups, axis=2)
    turned[...] = np.concatenate([b.transpose(0, 2, 1).reshape(-1, deep) for b in blocks], axis=1)
    dx = naive.convolution_gradients(conv.x, conv.w, conv.dy, *conv.how)[0]
    arrays = {"turned": turned, "dy": flat(conv.dy), "dx": blank(flat(dx).shape, dtype)}
    share = image_share(dx.shape[-1]) if share is None else share
    length = kh * kw * wide // conv.groups
    operands = ("turned", "dy", "dx", *conv.words(False), share, block)
    return conv.case("conv.input_gradient", arrays, operands, {"dx": (flat(dx), length, 10.0 * length)})


def weight_gradient(rng, dtype, window=WINDOWS[2], lines=3, bias=True, add=False, mode=0):
    conv = Convolution(rng, dtype, window)
    _, dw, db = naive.convolution_gradients(conv.x, conv.w, conv.dy, *conv.how)
    old, old_b = rng.normal(size=conv.w.shape).astype(dtype), rng.normal(size=conv.b.shape).astype(dtype)
    if add or mode:
        dw, db = dw + old, db + old_b
    arrays = {"x": flat(conv.x), "dy": flat(conv.dy), "dw": old, "db": old_b}
    operands = ("x", "dy", "dw", *conv.words(conv.merged), lines, mode, "db", int(bias))
    length = conv.dy[..., 0].size + 1
    expected = {"dw": (dw, length, 10.0 * length)} | ({"db": (db, length, 10.0 * length)} if bias else {})
    return conv.case("conv_weights.gradient", arrays, operands, expected, words={control.ACCUMULATE: int(add)})


CASES = {
    "conv.forward": forward,
    "conv.turn_weights": turn_weights,
    "conv.input_gradient": input_gradient,
    "conv_weights.gradient": weight_gradient,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_products_of_a_window_match_their_formula_however_they_are_cut(window, dtype, rng):
    check(forward(rng, dtype, window), dtype)
    check(forward(rng, dtype, window, share=PANELS, block=8), dtype)
    check(turn_weights(rng, dtype, window), dtype)
    check(input_gradient(rng, dtype, window), dtype)
    check(input_gradient(rng, dtype, window, share=PANELS, block=40), dtype)
    for lines in (1, 100):
        check(weight_gradient(rng, dtype, window, lines), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", WINDOWS[1:4], ids=str)
def test_what_follows_a_convolution_is_done_to_its_sums(window, dtype, rng):
    for some in itertools.product((0, BIAS), (0, OTHER), (0, RELU), (0, NORM)):
        check(forward(rng, dtype, window, flags=sum(some)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [WINDOWS[2], WINDOWS[5]], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("add, mode", [(True, 0), (False, 2)], ids=["accumulate", "shared layer"])
def test_weight_gradients_are_added_to_what_is_there(window, bias, add, mode, dtype, rng):
    check(weight_gradient(rng, dtype, window, bias=bias, add=add, mode=mode), dtype)
