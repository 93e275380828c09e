"""Batch normalisation. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import initializers, regularizers
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import COLUMNS, Buffer, number, reads_own, writes_own
from .base import Build, Layer, Shape, Weight


class BatchNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, feature by feature, with Keras's semantics.

    In training mean and biased variance are those of the batch, and the moving averages go towards them by 1 -
    momentum; in inference the moving averages are used. In `fit` a batch whose loss is not finite leaves them as they
    were. Source: Ioffe & Szegedy 2015, algorithms 1 and 2.

    Args:
        momentum: of the moving averages, 0 to 1.
        epsilon: added to the variance, above 0.
    Input, output:
        (batch, features).
    Weights:
        gamma, beta (features,); moving_mean, moving_variance (features,), not trainable.
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        **base,
    ):
        super().__init__(**base)
        if not (isinstance(momentum, int | float) and 0 <= momentum <= 1):
            raise HyperparameterError(f"BatchNormalization: expected momentum from 0 to 1, received {momentum!r}")
        if not (isinstance(epsilon, int | float) and epsilon > 0):
            raise HyperparameterError(f"BatchNormalization: expected epsilon above 0, received {epsilon!r}")
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)

    @staticmethod
    def examples() -> list[tuple[BatchNormalization, Shape]]:
        return [(BatchNormalization(), (5,)), (BatchNormalization(momentum=0.5, epsilon=1e-2), (37,))]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        return (
            Weight("gamma", input_shape, self.gamma_initializer, self.gamma_regularizer),
            Weight("beta", input_shape, self.beta_initializer, self.beta_regularizer),
            Weight("moving_mean", input_shape, initializers.Zeros(), trainable=False),
            Weight("moving_variance", input_shape, initializers.Ones(), trainable=False),
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            received = ", ".join(map(str, input_shape))
            raise ShapeError(
                f"{self.label()}: expected input (batch, features), received (batch, {received}); add Flatten() before it"
            )
        return input_shape

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, width = build.rows("y", x.shape), x.width
        gamma, beta = build.weight("gamma"), build.weight("beta")
        moving = build.weight("moving_mean"), build.weight("moving_variance")
        if not (training and self.trainable):
            operands: tuple = (x, y, gamma, beta, *moving, width, number(self.epsilon))
            accesses = reads_own(x, gamma, beta, *moving) + writes_own(y)
            build.step("norm.batch_inference", operands, accesses, COLUMNS, (-1, width), bytes=8.0 * width)
            return y
        mean, variance, inverse = (build.fixed(name, width) for name in ("mean", "variance", "inverse"))
        operands = (x, y, gamma, beta, mean, variance, inverse, width, number(self.epsilon))
        accesses = reads_own(x, gamma, beta) + writes_own(y, mean, variance, inverse)
        build.step("norm.batch_forward", operands, accesses, COLUMNS, (-1, width), bytes=24.0 * width)
        operands = (mean, variance, *moving, width, number(self.momentum))
        accesses = reads_own(mean, variance) + writes_own(*moving)
        build.step_after_loss(
            "norm.move_averages", operands, accesses, COLUMNS, (-1, width), bytes=24.0 * width, per_row=False
        )
        build.keep(x=x, mean=mean, inverse=inverse)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        if not self.trainable:
            return self._frozen_backward(build, dy)
        x, mean, inverse, gamma = build.kept("x"), build.kept("mean"), build.kept("inverse"), build.weight("gamma")
        rides = build.rides("gamma") and build.rides("beta")
        name = build.weight if rides else build.gradient
        dgamma, dbeta, width = name("gamma"), name("beta"), x.width
        mode = max(build.gradient_mode("gamma"), build.gradient_mode("beta"))  # the same for both
        operands = (x, dy, mean, inverse, gamma, dgamma, dbeta, width, int(build.input_gradient_wanted), mode)
        accesses = reads_own(x, mean, inverse, gamma) + writes_own(dy, dgamma, dbeta)
        build.step("norm.batch_backward", operands, accesses, COLUMNS, (-1, width), bytes=30.0 * width)
        return dy

    def _frozen_backward(self, build: Build, dy: Buffer) -> Buffer:
        gamma, variance = build.weight("gamma"), build.weight("moving_variance")
        operands = (dy, gamma, variance, dy.width, number(self.epsilon))
        accesses = reads_own(gamma, variance) + writes_own(dy)
        build.step("norm.frozen_backward", operands, accesses, COLUMNS, (-1, dy.width), bytes=8.0 * dy.width)
        return dy
