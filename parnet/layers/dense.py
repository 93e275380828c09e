"""The fully connected layer. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import activations, constraints, initializers, regularizers
from ..checks import check_flag, is_whole
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import (
    ALWAYS_STORES,
    COLUMNS,
    NOTHING_ASKED,
    PANEL,
    ROWS_SHARED,
    WHOLE_ROWS,
    Buffer,
    reads,
    reads_own,
    row_stride,
    writes_own,
)
from .activate import activate, activate_backward
from .base import Build, Layer, Shape, Weight


class Dense(Layer):
    """Y = activation(X . W + b).

    Args:
        units: number of outputs F.
        activation: name, Activation or None for linear.
        use_bias: whether b is added.
        kernel_initializer, bias_initializer: how W and b start.
        kernel_regularizer, bias_regularizer: penalties, or None.
        kernel_constraint, bias_constraint: what they must satisfy after each update, see `parnet.constraints`; or None.
    Input:
        (batch, K) float.
    Output:
        (batch, F).
    Weights:
        kernel W (K, F), bias b (F,): Keras's layout, the transpose of PyTorch's.
    Raises:
        HyperparameterError: units is not a whole number above 0.
        ShapeError: the input is not (batch, K).

    >>> from parnet import layers as L
    >>> L.Dense(10, activation="softmax").output_shape((784,))
    (10,)
    """

    update_rides = True
    head_part = "product"

    def __init__(
        self,
        units: int,
        activation=None,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **base,
    ):
        super().__init__(**base)
        if not is_whole(units, 1):
            raise HyperparameterError(f"Dense: expected units, a whole number above 0, received {units!r}")
        self.units = int(units)
        self.activation = activations.get(activation)
        self.use_bias = check_flag(use_bias, "Dense(use_bias)")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @staticmethod
    def examples() -> list[tuple[Dense, Shape]]:
        return [
            (Dense(5), (3,)),
            (Dense(19, activation="tanh"), (7,)),
            (Dense(100, activation="sigmoid", use_bias=False), (33,)),
            (Dense(4, activation="softmax"), (6,)),
            (Dense(6, activation="gelu", kernel_regularizer="l2", bias_regularizer="l1"), (5,)),
        ]

    def describe(self) -> str:
        return f"Dense {self.units}"

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        (features,) = input_shape
        made = self.kernel_initializer, self.kernel_regularizer
        kernel = Weight("kernel", (features, self.units), *made, constraint=self.kernel_constraint)
        bias = Weight("bias", (self.units,), self.bias_initializer, self.bias_regularizer, constraint=self.bias_constraint)
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            received = ", ".join(map(str, input_shape))
            raise ShapeError(
                f"{self.label()}: expected input (batch, features), received (batch, {received}); add Flatten() before it"
            )
        return (self.units,)

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, share = build.rows("y", (self.units,)), build.product_share(self.units)
        kernel = build.weight("kernel")
        build.step(
            "product.forward",
            (x, kernel, y, x.width, self.units, share, *NOTHING_ASKED),
            reads(x) + (reads_own(kernel) if share == COLUMNS else reads(kernel)) + writes_own(y),
            share,
            (-1, self.units),
            flops=2.0 * x.width * self.units,
            bytes=4.0 * (x.width + self.units),
        )
        build.keep(x=x)
        return activate(build, y, build.weight("bias") if self.use_bias else None, self.activation, share)

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        activate_backward(build, dy, self.activation, _gradient_share(build, self.units))
        x = build.kept("x")
        dx = self._input_gradient(build, x, dy) if build.input_gradient_wanted else None
        if self.trainable:
            self._weight_gradient(build, x, dy)
        return dx

    def backward_behind(self, build: Build, dy: Buffer, h: Buffer, gamma: Buffer, beta: Buffer) -> Buffer:
        """As backward, of an input gamma h + beta whose own gradient nobody needs; see `parnet.kernels.input_norm`.

        Returns:
            the sums that the gradients of gamma and beta are made of, (2 panels, K).
        """
        activate_backward(build, dy, self.activation, _gradient_share(build, self.units))
        kernel, width, share = build.weight("kernel"), h.width, build.product_share(self.units)
        sums = build.fixed("sums_behind", 2 * -(-self.units // PANEL) * row_stride(width))
        mode, target = build.gradient_mode("kernel"), self._target(build, "kernel")
        accesses = reads_own(kernel) + (reads_own(dy) if share == COLUMNS else reads(dy)) + reads(gamma, beta)
        accesses += writes_own(target, sums)
        made: tuple = (0, 0)
        flops, cost = 8.0 * width * self.units, 12.0 * width * self.units
        if build.batch > WHOLE_ROWS:
            made = build.fixed("gradient_behind", kernel.width), 1
            self._product_gradient(build, h, dy, made[0], ALWAYS_STORES)
            accesses += reads_own(made[0])
        else:
            accesses += reads(h)
            flops += 2.0 * build.batch * width * self.units
        operands = (kernel, h, dy, gamma, beta, target, sums, width, self.units, mode, share, *made)
        cut = share, (width, self.units)
        build.step("input_norm.spread", operands, accesses, *cut, flops=flops, bytes=cost, per_row=False)
        if self.use_bias:
            self._bias_gradient(build, dy)
        return sums

    def _input_gradient(self, build: Build, x: Buffer, dy: Buffer) -> Buffer:
        """dX = dY . W^T; before the weights' step, which may update W."""
        turned, dx, kernel = build.turned("dy_turned", self.units), build.rows("dx", x.shape), build.weight("kernel")
        share = _gradient_share(build, x.width)
        by_rows = share == ROWS_SHARED
        build.step(
            "product.transpose",
            (dy, turned, self.units, build.batch, share),
            (reads_own(dy) if by_rows else reads(dy)) + writes_own(turned),
            share,
            (-1, self.units),
            bytes=16.0 * self.units,
        )
        build.step(
            "product.input_gradient",
            (kernel, turned, dx, x.width, self.units, build.batch, share),
            reads(kernel) + (reads_own(turned) if by_rows else reads(turned)) + writes_own(dx),
            share,
            (-1, x.width),
            flops=2.0 * x.width * self.units,
            bytes=8.0 * x.width,
        )
        return dx

    def _weight_gradient(self, build: Build, x: Buffer, dy: Buffer) -> None:
        mode = build.gradient_mode("kernel")
        self._product_gradient(build, x, dy, self._target(build, "kernel"), mode)
        if self.use_bias:
            self._bias_gradient(build, dy)

    @staticmethod
    def _target(build: Build, name: str) -> Buffer:
        """Where the gradient of a weight goes."""
        return build.weight(name) if build.rides(name) else build.gradient(name)

    def _product_gradient(self, build: Build, x: Buffer, dy: Buffer, target: Buffer, mode: int) -> None:
        share = build.product_share(self.units)
        build.step(
            "product.weight_gradient",
            (x, dy, target, x.width, self.units, mode, share),
            reads(x) + (reads_own(dy) if share == COLUMNS else reads(dy)) + writes_own(target),
            share,
            (x.width, self.units),
            flops=2.0 * x.width * self.units,
            bytes=8.0,
        )

    def _bias_gradient(self, build: Build, dy: Buffer) -> None:
        mode, target = build.gradient_mode("bias"), self._target(build, "bias")
        build.step(
            "reduce.bias_gradient",
            (dy, target, self.units, mode),
            reads_own(dy) + writes_own(target),
            COLUMNS,
            (-1, self.units),
            bytes=8.0 * self.units,
        )


def _gradient_share(build: Build, width: int) -> int:
    """Who owns what of the gradient of a layer's output: as of the output, if a part's rows fill a tile of `input_gradient`.

    48 columns at batch 32 on two threads: 1.40 us a sample, 1.45 by rows; 100 columns at batch 512: 2.18, 2.14 by rows.
    """
    return build.product_share(width) if build.batch >= build.threads * PANEL else COLUMNS
