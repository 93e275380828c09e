"""Losses and their gradients, a warp a row, and the tally that adds them up; as `parnet/kernels/loss.py`. Stage: cuda."""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np

from ..kernels.control import ROWS, STEP, STOP
from ..kernels.step import row_stride
from .launch import Context, Fed, Launch, float_of
from .maths import functions
from .runtime import THREADS, WARP, cuda
from .softmax import softmax_of
from .sums import block_sum, warp_fold

#: probabilities are cut to [EPSILON, 1 - EPSILON] before a logarithm, as Keras does
EPSILON = 1e-7
LOG_2 = math.log(2.0)
POINTWISE = (
    "mean_squared", "mean_absolute", "huber", "hinge", "squared_hinge", "log_cosh", "poisson", "divergence", "binary",
    "sigmoid_binary",
)  # fmt: skip
NAMES = (*POINTWISE, "softmax_sparse", "softmax_dense", "sparse", "categorical")


@cache
def limited(T):
    """A probability cut to the range of logarithms."""

    @cuda.jit(device=True)
    def run(p):
        p = T(EPSILON) if p < T(EPSILON) else p
        return T(1 - EPSILON) if p > T(1 - EPSILON) else p

    return run


@cache
def smoothed(T):
    """A target with a share of it spread evenly over so many classes."""

    @cuda.jit(device=True)
    def run(t, share, classes):
        return (T(1) - share) * t + share / T(classes)

    return run


@cache
def pointwise(T) -> dict:
    """Losses made of a term for each number: name -> (p, t, parameter) -> (term, its slope, what becomes of p)."""
    f, cut, smooth = functions(T), limited(T), smoothed(T)
    log, log1p, exp, sigmoid, tanh = f.log, f.log1p, f.exp, f.sigmoid, f.tanh

    @cuda.jit(device=True)
    def sign(x):
        one = T(1) if x > T(0) else T(-1)
        return T(0) if x == T(0) else one

    def mean_squared(p, t, parameter):
        return (p - t) * (p - t), T(2) * (p - t), p

    def mean_absolute(p, t, parameter):
        return abs(p - t), sign(p - t), p

    def huber(p, t, delta):
        e = p - t
        if abs(e) <= delta:
            return T(0.5) * e * e, e, p
        return delta * (abs(e) - T(0.5) * delta), delta * sign(e), p

    def hinge(p, t, parameter):
        margin = T(1) - t * p
        return T(0) if margin < T(0) else margin, -t if margin > T(0) else T(0), p

    def squared_hinge(p, t, parameter):
        margin = T(1) - t * p
        margin = T(0) if margin < T(0) else margin
        return margin * margin, T(-2) * t * margin, p

    def log_cosh(p, t, parameter):
        e = abs(p - t)  # log cosh e = |e| + log(1 + e**-2|e|) - log 2 overflows nowhere
        return e + log1p(exp(T(-2) * e)) - T(LOG_2), tanh(p - t), p

    def poisson(p, t, parameter):
        above = p + T(EPSILON)
        return p - t * log(above), T(1) - t / above, p

    @cuda.jit(device=True)
    def at_most_1(p):
        p = T(EPSILON) if p < T(EPSILON) else p
        return T(1) if p > T(1) else p

    def divergence(p, t, parameter):
        q, aim = at_most_1(p), at_most_1(t)
        return aim * log(aim / q), -aim / q if q == p else T(0), p

    def binary(p, t, smoothing):
        q, aim = cut(p), smooth(t, smoothing, 2)
        slope = (T(1) - aim) / (T(1) - q) - aim / q
        return -(aim * log(q) + (T(1) - aim) * log(T(1) - q)), slope if q == p else T(0), p

    def sigmoid_binary(z, t, smoothing):
        # max(z, 0) - z t + log(1 + e**-|z|) overflows nowhere
        aim = smooth(t, smoothing, 2)
        term = (z if z > T(0) or z != z else T(0)) - z * aim + log1p(exp(-abs(z)))
        return term, sigmoid(z) - aim, sigmoid(z)

    found = dict(locals())
    return {name: cuda.jit(device=True)(found[name]) for name in POINTWISE}


@cache
def pointwise_kernel(T, name: str):
    """The kernel around one of them."""
    formula, fold, writes = pointwise(T)[name], warp_fold(T, False), name == "sigmoid_binary"
    summed = name == "divergence"

    @cuda.jit
    def run(ctl, geo, par, p, t, row_loss, d, weight):
        width, stride, t_stride, weighted, wanted = geo
        lane, rows = cuda.threadIdx.x, ctl[ROWS]
        for i in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, rows, cuda.gridsize(2)[1]):
            w = weight[i] if weighted else T(1)
            among = T(1) if summed else T(width)
            share, loss = w / T(rows) / among, T(0)
            for j in range(lane, width, WARP):
                term, slope, new = formula(p[i * stride + j], t[i * t_stride + j], par[0])
                loss += term
                if writes:
                    p[i * stride + j] = new
                if wanted:
                    d[i * stride + j] = slope * share
            loss = fold(loss)
            if lane == 0:
                row_loss[i] = w * (loss / among)

    return run


@cache
def softmax_kernel(T, sparse: bool):
    """Cross-entropy of softmax(z), which takes the place of z; targets are class numbers or probabilities."""
    softmax, fold, smooth = softmax_of(T), warp_fold(T, False), smoothed(T)

    @cuda.jit
    def run(ctl, geo, par, z, t, row_loss, d, weight):
        width, stride, t_stride, weighted, wanted = geo
        lane, rows = cuda.threadIdx.x, ctl[ROWS]
        for i in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, rows, cuda.gridsize(2)[1]):
            w, label = weight[i] if weighted else T(1), 0
            scale, chosen, mass = w / T(rows), T(0), T(0)
            if sparse:
                label = int(t[i * t_stride])
                for j in range(lane, width, WARP):
                    chosen += z[i * stride + j] if j == label else T(0)
                mass = T(1)
            else:
                for j in range(lane, width, WARP):
                    aim = smooth(t[i * t_stride + j], par[0], width)
                    chosen += aim * z[i * stride + j]
                    mass += aim
                mass = fold(mass)
            chosen = fold(chosen)
            loss = mass * softmax(z, z, i * stride, width, lane) - chosen
            if wanted:
                for j in range(lane, width, WARP):
                    if sparse:
                        aim = T(1) if j == label else T(0)
                    else:
                        aim = smooth(t[i * t_stride + j], par[0], width)
                    d[i * stride + j] = (mass * z[i * stride + j] - aim) * scale
            if lane == 0:
                row_loss[i] = w * loss

    return run


@cache
def probability_kernel(T, sparse: bool):
    """Cross-entropy of probabilities p, divided by their sum first; targets are class numbers or probabilities."""
    cut, fold, log, smooth = limited(T), warp_fold(T, False), functions(T).log, smoothed(T)

    @cuda.jit
    def run(ctl, geo, par, p, t, row_loss, d, weight):
        width, stride, t_stride, weighted, wanted = geo
        lane, rows = cuda.threadIdx.x, ctl[ROWS]
        for i in range(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y, rows, cuda.gridsize(2)[1]):
            w, label, first = weight[i] if weighted else T(1), 0, i * stride
            scale, total, loss, mass = w / T(rows), T(0), T(0), T(0)
            if sparse:
                label = int(t[i * t_stride])
            for j in range(lane, width, WARP):
                total += p[first + j]
            total = fold(total)
            for j in range(lane, width, WARP):
                q = p[first + j] / total
                if sparse:
                    aim = T(1) if j == label else T(0)
                else:
                    aim = smooth(t[i * t_stride + j], par[0], width)
                if aim != T(0):
                    loss -= aim * log(cut(q))
                mass += aim if q == cut(q) else T(0)
            loss, mass = fold(loss), fold(mass)
            if wanted:
                for j in range(lane, width, WARP):
                    q = p[first + j] / total
                    if sparse:
                        aim = T(1) if j == label else T(0)
                    else:
                        aim = smooth(t[i * t_stride + j], par[0], width)
                    own = aim / q if aim != T(0) and q == cut(q) else T(0)
                    d[first + j] = (mass - own) * scale / total
            if lane == 0:
                row_loss[i] = w * loss

    return run


@cache
def weigh(T):
    """total = weight loss, or += it."""

    @cuda.jit
    def run(ctl, geo, par, loss, total):
        for i in range(cuda.grid(1), ctl[ROWS], cuda.gridsize(1)):
            before = total[i] if geo[0] else T(0)
            total[i] = before + par[0] * loss[i]

    return run


@cache
def add_values(T):
    """sums[slot] += the sum of values (rows,), by one block."""
    total = block_sum(np.float64)

    @cuda.jit
    def run(ctl, geo, par, values, sums):
        mine = 0.0
        for i in range(cuda.threadIdx.x, ctl[ROWS], THREADS):
            mine += values[i]
        mine = total(mine)
        if cuda.threadIdx.x == 0:
            sums[geo[0]] += mine

    return run


@cache
def tally_kernel(T):
    """The batch's loss to SUMS[0] and LOSSES[step]; one that is not finite stops the run, which has no rows from then on."""
    total = block_sum(np.float64)

    @cuda.jit
    def run(ctl, geo, par, row_loss, penalties, sums, losses):
        rows, mine = ctl[ROWS], 0.0
        for i in range(cuda.threadIdx.x, rows, THREADS):
            mine += row_loss[i]
        for q in range(cuda.threadIdx.x, geo[0], THREADS):
            mine += penalties[q] * rows
        mine = total(mine)
        if cuda.threadIdx.x == 0 and rows > 0:
            sums[0] += mine
            losses[ctl[STEP]] = mine / rows
            if not math.isfinite(mine):
                ctl[STOP] = ctl[STEP] + 1
                ctl[ROWS] = 0

    return run


def _row_loss(name: str, c: Context, op: tuple) -> list[Launch]:
    p, t, row_loss, d, width, weight, weighted, wanted, parameter, t_width = op
    geo = (width, row_stride(width), row_stride(t_width), weighted, wanted)
    kernels = {"softmax_sparse": (softmax_kernel, True), "softmax_dense": (softmax_kernel, False)}
    kernels |= {"sparse": (probability_kernel, True), "categorical": (probability_kernel, False)}
    make, what = kernels.get(name, (pointwise_kernel, name))
    return [c.warps(make(c.T, what), c.batch, geo, (float_of(parameter),), *c.arrays(p, t, row_loss, d, weight))]


def _weigh(c: Context, op: tuple) -> list[Launch]:
    loss, total, weight, add = op
    return [c.flat(weigh(c.T), c.batch, (add,), (float_of(weight),), *c.arrays(loss, total))]


def _add_up(c: Context, op: tuple) -> list[Launch]:
    pairs = zip(op[1::2], op[2::2], strict=True)
    return [c.block(add_values(c.T), 1, (slot,), (), c.array(values), Fed("sums")) for values, slot in pairs]


def _tally(c: Context, op: tuple) -> list[Launch]:
    row_loss, penalties, count, *values = op
    metrics = _add_up(c, tuple(values))  # first: they count the step that stops a run
    arrays = c.arrays(row_loss, penalties)
    return [*metrics, c.block(tally_kernel(c.T), 1, (count,), (), *arrays, Fed("sums"), Fed("losses"))]


LAUNCHERS = {
    **{f"loss.{name}": partial(_row_loss, name) for name in NAMES},
    "loss.weigh": _weigh,
    "loss.add_up": _add_up,
    "loss.tally": _tally,
}
