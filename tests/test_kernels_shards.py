"""Sums over virtual shards: the tree, and batch normalisation over shards, right however they are cut."""

import numpy as np
import pytest
from kernelbench import DTYPES, Case, blank, check

from parnet.kernels import control
from parnet.kernels.entries import rows_before, rows_in
from parnet.kernels.step import CHUNK_PIXELS

EPSILON, MOMENTUM = 1e-3, 0.9
BATCHES = [(5, 2), (2, 3), (97, 4), (1, 5), (33, 1), (64, 64)]


def tree(terms):
    """The sum along the fixed tree, in the terms' own dtype; None is no term."""
    while len(terms) > 1:
        pairs = [terms[k : k + 2] for k in range(0, len(terms), 2)]
        there = [[t for t in pair if t is not None] for pair in pairs]
        terms = [pair[0] + pair[1] if len(pair) == 2 else (pair or [None])[0] for pair in there]
    return terms[0]


def words(rows, shards, shard=0):
    return {
        control.WHOLE: rows,
        control.SHARDS: shards,
        control.SHARD: shard,
        control.ROWS: rows_in(rows, shard, shards),
    }


def fold(rng, dtype, rows, shards, n=1100, add=0):
    made, dw = rng.normal(size=(shards, n)).astype(dtype), rng.normal(size=n).astype(dtype)
    total = tree([made[s] if rows_in(rows, s, shards) else None for s in range(shards)])
    stride = -(-n // 16) * 16
    stride += 16 if stride % 512 == 0 else 0
    expected = {"dw": (dw + total if add else total, 0, 0)}
    control_words = words(rows, shards) | {control.ACCUMULATE: add}
    return Case("shards.fold", 1, {"made": made, "dw": dw}, ("made", stride, "dw", n), expected, control_words)


def moments_of(x):
    """Mean and sum of squares about it of columns."""
    x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return np.stack([x.mean(0), ((x - x.mean(0)) ** 2).sum(0)])


def parts_of(x, shards):
    return [x[rows_before(len(x), s, shards) : rows_before(len(x), s + 1, shards)] for s in range(shards)]


def all_moments(x, shards, dtype):
    """(shards, 2, C) as the kernels leave them; NaN for an empty shard."""
    empty = np.full((2, x.shape[-1]), np.nan)
    return np.stack([moments_of(p) if len(p) else empty for p in parts_of(x, shards)]).astype(dtype)


def own_row(exchange, shard, values, rows, size):
    """What the exchange holds when one shard has written its row."""
    expected, weight = exchange.astype(np.float64), np.zeros(exchange.shape)
    expected[shard], weight[shard] = values, size
    return {"exchange": (expected, rows, weight)}


def moments(rng, dtype, rows, width, shards=3, shard=1):
    x = rng.normal(size=(rows, width)).astype(dtype)
    exchange = rng.normal(size=(shards, 2, width)).astype(dtype)
    expected = own_row(exchange, shard, moments_of(x), rows, rows * (abs(x).max() + 1) ** 2)
    at = words(rows * shards, shards, shard)
    return Case("shard_norm.moments", rows, {"x": x, "exchange": exchange}, ("x", "exchange", width), expected, at)


def chunked(x, of):
    """of(chunk) of each chunk of pixels of each image."""
    rows, pixels, _ = x.shape
    cuts = range(0, pixels, CHUNK_PIXELS)
    return np.stack([np.stack([of(x[i, p : p + CHUNK_PIXELS]) for p in cuts]) for i in range(rows)])


def image_moments(rng, dtype, rows, width, pixels=150, shards=2, shard=1):
    x = rng.normal(size=(rows, pixels, width)).astype(dtype)
    sums = chunked(x, moments_of).astype(dtype).reshape(rows, -1)
    exchange = rng.normal(size=(shards, 2, width)).astype(dtype)
    expected = own_row(exchange, shard, moments_of(x), rows * pixels, rows * pixels * (abs(x).max() + 1) ** 2)
    operands, at = ("sums", "exchange", pixels, width), words(rows * shards, shards, shard)
    return Case("shard_norm.image_moments", rows, {"sums": sums, "exchange": exchange}, operands, expected, at)


def combine(rng, dtype, rows, width, shards=4):
    x = (rng.normal(size=(rows, width)) + 1).astype(dtype)
    mean, squares = moments_of(x)
    inverse = 1 / np.sqrt(squares / rows + EPSILON)
    size = (abs(x).max() + 1) ** 2
    expected = {"mean": (mean, rows, size), "inverse": (inverse, rows, 1 + inverse**3 * size)}
    arrays = {"exchange": all_moments(x, shards, dtype), "mean": blank(width, dtype), "inverse": blank(width, dtype)}
    operands = ("exchange", "mean", "inverse", 1, width, EPSILON)
    return Case("shard_norm.combine", rows, arrays, operands, expected, words(rows, shards))


def move_averages(rng, dtype, rows, width, shards=4):
    x, old = (rng.normal(size=(rows, width)) + 1).astype(dtype), rng.normal(size=(2, width)).astype(dtype)
    mean, squares = moments_of(x)
    size, momentum = (abs(x).max() + 1) ** 2, float(np.dtype(dtype).type(MOMENTUM))
    new = [mean, squares / rows]
    expected = {k: (momentum * o + (1 - momentum) * n, rows, size) for k, o, n in zip("mv", old, new, strict=True)}
    arrays = {"exchange": all_moments(x, shards, dtype), "m": old[0], "v": old[1]}
    operands = ("exchange", "m", "v", 1, width, MOMENTUM)
    return Case("shard_norm.move_averages", rows, arrays, operands, expected, words(rows, shards))


def leave_statistics(rng, dtype, rows, width, shards=2, shard=1):
    mean, variance = rng.normal(size=(2, width)).astype(dtype)
    exchange = rng.normal(size=(shards, 2, width)).astype(dtype)
    expected = own_row(exchange, shard, np.stack([mean, variance]), 0, 0)
    arrays, operands = {"mean": mean, "variance": variance, "exchange": exchange}, ("mean", "variance", "exchange", width)
    return Case("shard_norm.leave_statistics", rows, arrays, operands, expected, words(rows * shards, shards, shard))


def move_by_mean(rng, dtype, rows, width, shards=4):
    own, old = rng.normal(size=(shards, 2, width)).astype(dtype), rng.normal(size=(2, width)).astype(dtype)
    shares = np.array([rows_in(rows, s, shards) for s in range(shards)])
    own[shares == 0] = np.nan
    mean = (np.nan_to_num(own.astype(float)) * shares[:, None, None]).sum(0) / rows
    momentum = float(np.dtype(dtype).type(MOMENTUM))
    expected = {
        k: (momentum * o + (1 - momentum) * n, shards, 8) for k, o, n in zip("mv", old.astype(float), mean, strict=True)
    }
    arrays, operands = {"exchange": own, "m": old[0], "v": old[1]}, ("exchange", "m", "v", width, MOMENTUM)
    return Case("shard_norm.move_by_mean", rows, arrays, operands, expected, words(rows, shards))


def gradient_sums(rng, dtype, rows, width, shards=2, shard=1):
    x, dy = rng.normal(size=(2, rows, width)).astype(dtype)
    mean, inverse = rng.normal(size=width).astype(dtype), rng.uniform(0.5, 2, width).astype(dtype)
    dbeta, dgamma = dy.astype(float).sum(0), (dy.astype(float) * (x.astype(float) - mean)).sum(0) * inverse
    exchange, size = rng.normal(size=(shards, 2, width)).astype(dtype), rows * 40
    expected = own_row(exchange, shard, np.stack([dbeta, dgamma]), rows, size)
    expected |= {"dgamma": (dgamma, rows, size), "dbeta": (dbeta, rows, size)}
    arrays = {"x": x, "dy": dy, "mean": mean, "inverse": inverse, "exchange": exchange}
    arrays |= {name: np.ones(width, dtype) for name in ("dgamma", "dbeta")}
    operands = ("x", "dy", "mean", "inverse", "dgamma", "dbeta", "exchange", width, 0)
    at = words(rows * shards, shards, shard)
    return Case("shard_norm.gradient_sums", rows, arrays, operands, expected, at, weights=("dgamma", "dbeta"))


def image_gradient_sums(rng, dtype, rows, width, pixels=150, shards=2, shard=0):
    dy = rng.normal(size=(2, rows, pixels, width))
    sums = np.stack([chunked(d, lambda chunk: chunk.sum(0)) for d in dy], axis=2).astype(dtype)
    inverse, exchange = rng.uniform(0.5, 2, width).astype(dtype), rng.normal(size=(shards, 2, width)).astype(dtype)
    dbeta, dgamma = sums.astype(float).sum((0, 1))
    dgamma, size = dgamma * inverse, rows * pixels * 8
    expected = own_row(exchange, shard, np.stack([dbeta, dgamma]), rows, size)
    expected |= {"dgamma": (dgamma, rows, size), "dbeta": (dbeta, rows, size)}
    arrays = {"sums": sums.reshape(rows, -1), "inverse": inverse, "exchange": exchange}
    arrays |= {name: np.ones(width, dtype) for name in ("dgamma", "dbeta")}
    operands, at = ("sums", "inverse", "dgamma", "dbeta", "exchange", pixels, width, 0), words(rows * shards, shards, shard)
    return Case("shard_norm.image_gradient_sums", rows, arrays, operands, expected, at, weights=("dgamma", "dbeta"))


def combine_gradients(rng, dtype, rows, width, shards=4, pixels=3):
    own = rng.normal(size=(shards, 2, width)).astype(dtype)
    own[[rows_in(rows, s, shards) == 0 for s in range(shards)]] = np.nan
    mean, inverse, gamma = rng.normal(size=(3, width)).astype(dtype)
    dbeta, dgamma = np.nansum(own.astype(float), axis=0)
    a = gamma.astype(float) * inverse
    b = -a * inverse * dgamma / (rows * pixels)
    s = -a * dbeta / (rows * pixels) - mean * b
    expected = {"a": (a, 1, 16), "b": (b, shards, 500), "s": (s, shards, 2000)}
    arrays = {"exchange": own, "mean": mean, "inverse": inverse, "gamma": gamma}
    arrays |= {name: blank(width, dtype) for name in expected}
    operands = ("exchange", "mean", "inverse", "gamma", "a", "b", "s", pixels, width)
    return Case("shard_norm.combine_gradients", rows, arrays, operands, expected, words(rows, shards), weights=("gamma",))


NORMS = (
    moments,
    image_moments,
    combine,
    move_averages,
    leave_statistics,
    move_by_mean,
    gradient_sums,
    image_gradient_sums,
    combine_gradients,
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_added_along_the_fixed_tree_to_the_last_bit(dtype, rng):
    for rows, shards in BATCHES:
        for add in (0, 1):
            check(fold(rng, dtype, rows, shards, add=add), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", NORMS, ids=lambda make: make.__name__)
def test_statistics_over_shards_match_those_of_the_whole_batch(make, dtype, rng):
    for rows, width in [(1, 1), (3, 17), (9, 50), (6, 600)]:
        check(make(rng, dtype, rows, width), dtype)


CASES = {f"shard_norm.{make.__name__}": lambda rng, dtype, make=make: make(rng, dtype, 7, 20) for make in NORMS}
CASES["shards.fold"] = lambda rng, dtype: fold(rng, dtype, 7, 5)
