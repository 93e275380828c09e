"""Batch normalisation of a batch in virtual shards: what a shard does, and where it needs the others. Stage: layers.

Going forward each shard leaves its moments, going back its sums; a meeting of all shards lies behind both. Then each
combines them for itself. The moving averages move once a batch. Must not know: who runs the shards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernels.step import COLUMNS, Buffer, image_share, number, reads, reads_own, row_stride, writes_own
from .activate import cut_of
from .base import Build, count

if TYPE_CHECKING:
    from .normalization import BatchNormalization


def _pixels(x: Buffer) -> int:
    """Numbers that each channel of a row has."""
    return count(x.shape[:-1])


def _exchange(build: Build, name: str, width: int) -> Buffer:
    return build.exchange(name, 2 * row_stride(width))


def forward(
    layer: BatchNormalization,
    build: Build,
    x: Buffer,
    y: Buffer,
    mean: Buffer,
    inverse: Buffer,
    moving: tuple[Buffer, Buffer],
) -> None:
    """x -> y, mean and inverse; the moving averages move when the loss is known."""
    pixels, width, by_column = _pixels(x), x.shape[-1], (COLUMNS, (-1, x.shape[-1]))
    seen = _exchange(build, "shard_moments", width)
    if len(x.shape) == 3:
        sums = layer.chunk_moments(build, x)
        operands: tuple = (sums, seen, pixels, width)
        cost = 8.0 * sums.width
        build.step("shard_norm.image_moments", operands, reads(sums) + writes_own(seen), *by_column, bytes=cost)
    else:
        build.step("shard_norm.moments", (x, seen, width), reads_own(x) + writes_own(seen), *by_column, bytes=16.0 * width)
    operands = (seen, mean, inverse, pixels, width, number(layer.epsilon))
    accesses, cost = reads_own(seen) + writes_own(mean, inverse), 16.0 * width * build.shards
    build.step("shard_norm.combine", operands, accesses, *by_column, bytes=cost, per_row=False)
    gamma, beta = build.weight("gamma"), build.weight("beta")
    operands = (x, y, gamma, beta, mean, inverse, pixels, width)
    accesses = reads_own(x) + reads(gamma, beta, mean, inverse) + writes_own(y)
    cut = cut_of(image_share(width), x.shape)
    build.step("channel_norm.normalise", operands, accesses, *cut, bytes=8.0 * x.width, scratch=2 * width)
    operands = (seen, *moving, pixels, width, number(layer.momentum))
    accesses = reads_own(seen) + writes_own(*moving)
    build.step_after_loss("shard_norm.move_averages", operands, accesses, *by_column, bytes=cost, per_row=False)


def leave(layer: BatchNormalization, build: Build, mean: Buffer, variance: Buffer, moving: tuple[Buffer, Buffer]) -> None:
    """A shard's own statistics, for the moving averages alone."""
    width, by_column = mean.width, (COLUMNS, (-1, mean.width))
    seen = _exchange(build, "shard_statistics", width)
    operands: tuple = (mean, variance, seen, width)
    accesses = reads_own(mean, variance) + writes_own(seen)
    build.step("shard_norm.leave_statistics", operands, accesses, *by_column, bytes=16.0 * width, per_row=False)
    operands = (seen, *moving, width, number(layer.momentum))
    accesses, cost = reads_own(seen) + writes_own(*moving), 16.0 * width * build.shards
    build.step_after_loss("shard_norm.move_by_mean", operands, accesses, *by_column, bytes=cost, per_row=False)


def backward(layer: BatchNormalization, build: Build, x: Buffer, dy: Buffer, others: tuple[Buffer, ...], mode: int) -> None:
    """dy becomes dx; the shard's part of dgamma and dbeta.   others: mean, inverse, gamma, dgamma, dbeta."""
    pixels, width, by_column = _pixels(x), x.shape[-1], (COLUMNS, (-1, x.shape[-1]))
    mean, inverse, gamma, *targets = others
    seen = _exchange(build, "shard_gradients", width)
    if len(x.shape) == 3:
        sums = layer.chunk_gradients(build, x, dy, mean)
        operands: tuple = (sums, inverse, *targets, seen, pixels, width, mode)
        accesses, cost = reads(sums) + reads_own(inverse) + writes_own(*targets, seen), 8.0 * sums.width
        build.step("shard_norm.image_gradient_sums", operands, accesses, *by_column, bytes=cost)
    else:
        operands = (x, dy, mean, inverse, *targets, seen, width, mode)
        accesses = reads_own(x, dy, mean, inverse) + writes_own(*targets, seen)
        build.step("shard_norm.gradient_sums", operands, accesses, *by_column, bytes=16.0 * width)
    if not build.input_gradient_wanted:
        return
    factors = layer.factors(build, width)
    operands = (seen, mean, inverse, gamma, *factors, pixels, width)
    accesses, cost = reads_own(seen, mean, inverse, gamma) + writes_own(*factors), 16.0 * width * build.shards
    build.step("shard_norm.combine_gradients", operands, accesses, *by_column, bytes=cost, per_row=False)
    operands = (x, dy, *factors, pixels, width)
    accesses, cut = reads_own(x) + reads(*factors) + writes_own(dy), cut_of(image_share(width), x.shape)
    build.step("channel_norm.input_gradient", operands, accesses, *cut, bytes=12.0 * x.width)
