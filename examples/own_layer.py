"""A user's own parts: an activation from two formulas, and a layer with a weight and kernels of its own.

Both are compiled like parnet's, run on any number of threads, and are checked against finite differences.
"""

import numpy as np

import parnet as pn
from parnet import layers as L
from parnet.kernels.control import ROWS
from parnet.kernels.declare import kernel
from parnet.kernels.intrinsics import at, like
from parnet.kernels.library import add_user_kernel
from parnet.kernels.product import gradient_mode
from parnet.kernels.reduce import deliver
from parnet.kernels.share import columns, stride_of
from parnet.kernels.step import COLUMNS, reads_own, writes_own

# An activation: its formula and its derivative, scalar Python. y is the formula's value.
soft_sign = pn.activations.define(
    "soft_sign",
    lambda x, alpha: x / (alpha + abs(x)),
    lambda x, y, alpha: alpha / ((alpha + abs(x)) * (alpha + abs(x))),
    alpha=1.0,
)


# A layer: y = gain x, one gain a feature, learnt. Each thread owns some columns, so the bits never change.
@kernel
def gain_forward(op, ctl, mem, part, parts):
    """x (rows, width), gain (width,) -> y (rows, width).   op: x, gain, y, width."""
    gain, stride = at(mem, op[1]), stride_of(op[3])
    first, last = columns(op[3], part, parts)
    for i in range(ctl[ROWS]):
        x, y = at(mem, op[0] + i * stride), at(mem, op[2] + i * stride)
        for j in range(first, last):
            y[j] = gain[j] * x[j]


@kernel
def gain_backward(op, ctl, mem, part, parts):
    """x, dy (rows, width), gain (width,) -> dgain = sum dy x, then dy *= gain.

    op: x, dy, gain, dgain, sums, width, update.
    """
    gain, sums, stride = at(mem, op[2]), at(mem, op[4]), stride_of(op[5])
    first, last = columns(op[5], part, parts)
    mode, scale = gradient_mode(ctl, mem, op[6])  # stored, added, or the plain-SGD update at once
    for j in range(first, last):
        sums[j] = like(mem, 0)
    for i in range(ctl[ROWS]):
        x, dy = at(mem, op[0] + i * stride), at(mem, op[1] + i * stride)
        for j in range(first, last):
            sums[j] += dy[j] * x[j]
            dy[j] *= gain[j]
    deliver(at(mem, op[3] + first), at(sums, first), last - first, mode, scale)


add_user_kernel(gain_forward)
add_user_kernel(gain_backward)


class Gain(L.Layer):
    """y = gain x, one learnt gain a feature. It declares its work; plans and executors do the rest."""

    def weights(self, input_shape):
        return (L.Weight("gain", input_shape, pn.initializers.Ones()),)

    def forward(self, build, x, training):
        y, gain = build.rows("y", x.shape), build.weight("gain")
        accesses = reads_own(x, gain) + writes_own(y)
        build.step("user.gain_forward", (x, gain, y, x.width), accesses, COLUMNS, (-1, x.width), bytes=12.0 * x.width)
        build.keep(x=x)
        return y

    def backward(self, build, dy):
        x, gain, mode = build.kept("x"), build.weight("gain"), build.gradient_mode("gain")
        target, sums = gain if build.rides("gain") else build.gradient("gain"), build.fixed("sums", dy.width)
        operands = (x, dy, gain, target, sums, dy.width, mode)
        accesses = reads_own(x, gain) + writes_own(dy, target, sums)
        build.step("user.gain_backward", operands, accesses, COLUMNS, (-1, dy.width), bytes=20.0 * dy.width)
        return dy


def network():
    return pn.Sequential([L.Input((6,)), Gain(), L.Dense(64, activation=soft_sign), Gain(), L.Dense(1)], seed=0)


def main():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 6))
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2]  # only two of the six features matter

    print("soft_sign(-1, 0, 3) =", soft_sign(np.array([-1.0, 0.0, 3.0])))
    report = pn.check_gradients(network(), "mse", x[:8], y[:8])
    print(f"gradients of {report.entries} weights checked, worst relative error {report.worst:.1e}")

    trained = {}
    for strategy in ("serial", "threads"):
        model = network()
        model.compile(pn.optimizers.SGD(0.05), "mse")
        history = model.fit(x, y, epochs=60, verbose=0, strategy=strategy)
        trained[strategy] = model.get_weights()
    print("loss: {:.4f} -> {:.4f}".format(*(history.history["loss"][i] for i in (0, -1))))
    print("gains of the six features:", np.abs(trained["serial"][0]).round(2))
    same = all(np.array_equal(a, b) for a, b in zip(*trained.values(), strict=True))
    print("serial and threads agree bit for bit:", same)


if __name__ == "__main__":
    main()
