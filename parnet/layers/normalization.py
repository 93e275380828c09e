"""Batch normalisation. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import constraints, initializers, regularizers
from ..checks import check_flag
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import CHUNK_PIXELS, COLUMNS, PIXELS, Buffer, number, reads, reads_own, row_stride, writes_own
from . import shard_statistics
from .activate import cut_of, usual_share
from .base import Build, Layer, Shape, Weight, count


class BatchNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, feature by feature, with Keras's semantics.

    Of images the features are the channels: mean and variance are taken over all pixels of the batch.

    In training mean and biased variance are those of the batch, and the moving averages go towards them by 1 -
    momentum; in inference the moving averages are used. In `fit` a batch whose loss is not finite leaves them as they
    were. Source: Ioffe & Szegedy 2015, algorithms 1 and 2.

    Args:
        momentum: of the moving averages, 0 to 1.
        epsilon: added to the variance, above 0.
        synchronized: of a batch in virtual shards (`pn.strategy`): True takes mean and variance over the whole batch, as
            without shards; False over each shard alone, which spares the shards two meetings, and the moving averages go
            towards the mean of the shards' statistics, each weighing as its rows; below 16 rows a shard `fit` warns.
    Input, output:
        (batch, features), or (batch, height, width, features).
    Weights:
        gamma, beta (features,); moving_mean, moving_variance (features,), not trainable.
    """

    update_rides = True
    tail_part = head_part = "norm"

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        synchronized: bool = True,
        **base,
    ):
        super().__init__(**base)
        if not (isinstance(momentum, int | float) and 0 <= momentum <= 1):
            raise HyperparameterError(f"BatchNormalization: expected momentum from 0 to 1, received {momentum!r}")
        if not (isinstance(epsilon, int | float) and epsilon > 0):
            raise HyperparameterError(f"BatchNormalization: expected epsilon above 0, received {epsilon!r}")
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.synchronized = check_flag(synchronized, "BatchNormalization(synchronized)")
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    @staticmethod
    def examples() -> list[tuple[BatchNormalization, Shape]]:
        return [
            (BatchNormalization(), (5,)),
            (BatchNormalization(momentum=0.5, epsilon=1e-2), (37,)),
            (BatchNormalization(), (3, 4, 5)),
            (BatchNormalization(momentum=0.5, trainable=False), (2, 3, 16)),
        ]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        features = input_shape[-1:]
        return (
            Weight("gamma", features, self.gamma_initializer, self.gamma_regularizer, constraint=self.gamma_constraint),
            Weight("beta", features, self.beta_initializer, self.beta_regularizer, constraint=self.beta_constraint),
            Weight("moving_mean", features, initializers.Zeros(), trainable=False),
            Weight("moving_variance", features, initializers.Ones(), trainable=False),
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 3):
            received = ", ".join(map(str, input_shape))
            raise ShapeError(
                f"{self.label()}: expected input (batch, features) or (batch, height, width, channels), received "
                f"(batch, {received}); add Flatten() before it"
            )
        return input_shape

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, width = build.rows("y", x.shape), x.shape[-1]
        moving = build.weight("moving_mean"), build.weight("moving_variance")
        if not (training and self.trainable):
            self._with_moving_averages(build, x, y, moving)
            return y
        mean, inverse = build.fixed("mean", width), build.fixed("inverse", width)
        build.keep(x=x, mean=mean, inverse=inverse)
        if build.shards > 1 and self.synchronized:
            shard_statistics.forward(self, build, x, y, mean, inverse, moving)
            return y
        variance = build.fixed("variance", width)
        declare = self._image_forward if len(x.shape) == 3 else self._row_forward
        declare(build, x, y, mean, variance, inverse)
        if build.shards > 1:
            shard_statistics.leave(self, build, mean, variance, moving)
            return y
        operands = (mean, variance, *moving, width, number(self.momentum))
        accesses = reads_own(mean, variance) + writes_own(*moving)
        build.step_after_loss(
            "norm.move_averages", operands, accesses, COLUMNS, (-1, width), bytes=24.0 * width, per_row=False
        )
        return y

    def _with_moving_averages(self, build: Build, x: Buffer, y: Buffer, moving: tuple[Buffer, Buffer]) -> None:
        weights, width = (build.weight("gamma"), build.weight("beta"), *moving), x.shape[-1]
        build.keep(x=x)
        if len(x.shape) == 3:
            operands: tuple = (x, y, *weights, count(x.shape[:2]), width, number(self.epsilon))
            accesses, cut = reads_own(x) + reads(*weights) + writes_own(y), cut_of(usual_share(x.shape), x.shape)
            build.step("channel_norm.inference", operands, accesses, *cut, bytes=8.0 * x.width, scratch=2 * width)
            return
        operands = (x, y, *weights, width, number(self.epsilon))
        accesses = reads_own(x, *weights) + writes_own(y)
        build.step("norm.batch_inference", operands, accesses, COLUMNS, (-1, width), bytes=8.0 * width)

    def _row_forward(self, build: Build, x: Buffer, y: Buffer, *statistics: Buffer) -> None:
        gamma, beta, width = build.weight("gamma"), build.weight("beta"), x.width
        operands = (x, y, gamma, beta, *statistics, width, number(self.epsilon))
        accesses = reads_own(x, gamma, beta) + writes_own(y, *statistics)
        build.step("norm.batch_forward", operands, accesses, COLUMNS, (-1, width), bytes=24.0 * width)

    def _image_forward(self, build: Build, x: Buffer, y: Buffer, mean: Buffer, variance: Buffer, inverse: Buffer) -> None:
        pixels, width = count(x.shape[:2]), x.shape[-1]
        sums, gamma, beta = self.chunk_moments(build, x), build.weight("gamma"), build.weight("beta")
        operands: tuple = (sums, mean, variance, inverse, pixels, width, number(self.epsilon))
        accesses = reads(sums) + writes_own(mean, variance, inverse)
        build.step("channel_norm.combine_moments", operands, accesses, COLUMNS, (-1, width), bytes=8.0 * sums.width)
        operands = (x, y, gamma, beta, mean, inverse, pixels, width)
        accesses = reads_own(x) + reads(gamma, beta, mean, inverse) + writes_own(y)
        cut = cut_of(usual_share(x.shape), x.shape)
        build.step("channel_norm.normalise", operands, accesses, *cut, bytes=8.0 * x.width, scratch=2 * width)

    def chunk_moments(self, build: Build, x: Buffer) -> Buffer:
        """Mean and sum of squares about it of each channel of each chunk of each image."""
        pixels, width = count(x.shape[:2]), x.shape[-1]
        sums, chunks = self._chunks(build, "moments", x.shape), (PIXELS, (-1, -(-pixels // CHUNK_PIXELS), 1))
        operands = (x, sums, pixels, width)
        build.step("channel_norm.moments", operands, reads(x) + writes_own(sums), *chunks, bytes=8.0 * x.width)
        return sums

    @staticmethod
    def _chunks(build: Build, name: str, shape: Shape) -> Buffer:
        """Two sums for each channel of each chunk of each image."""
        return build.rows(name, (-(-count(shape[:2]) // CHUNK_PIXELS) * 2, shape[-1]))

    # -- in a head, see `parnet.kernels.input_norm` -----------------------------------------------

    def standardised(self, build: Build) -> tuple[Buffer, Buffer, Buffer]:
        """(x - mean) / sqrt(variance + epsilon) of the batch, (batch, features); gamma; beta."""
        x, mean, inverse = build.kept("x"), build.kept("mean"), build.kept("inverse")
        h = build.rows("standardised", x.shape)
        accesses = reads_own(x, mean, inverse) + writes_own(h)
        operands = (x, h, mean, inverse, x.width)
        build.step("input_norm.standardise", operands, accesses, COLUMNS, (-1, x.width), bytes=8.0 * x.width)
        return h, build.weight("gamma"), build.weight("beta")

    def backward_by_sums(self, build: Build, sums: Buffer) -> None:
        """The gradients of gamma and beta from what the product behind has summed."""
        width = build.kept("x").width
        *targets, mode = self._targets(build)
        panels = sums.width // (2 * row_stride(width))
        operands = (sums, *targets, width, panels, mode)
        accesses = reads(sums) + writes_own(*targets)
        cut, cost = (COLUMNS, (-1, width)), 4.0 * sums.width
        build.step("input_norm.collect", operands, accesses, *cut, bytes=cost, per_row=False)

    @staticmethod
    def _targets(build: Build) -> tuple[Buffer, Buffer, int]:
        """Where the gradients of gamma and beta go, and what becomes of them."""
        name = build.weight if build.rides("gamma") and build.rides("beta") else build.gradient
        mode = max(build.gradient_mode("gamma"), build.gradient_mode("beta"))  # the same for both
        return name("gamma"), name("beta"), mode

    # -- backward -------------------------------------------------------------------------------

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        x = build.kept("x")
        if not self.trainable:
            return self._frozen_backward(build, x, dy)
        mean, inverse, gamma = build.kept("mean"), build.kept("inverse"), build.weight("gamma")
        *targets, mode = self._targets(build)
        if build.shards > 1 and self.synchronized:
            shard_statistics.backward(self, build, x, dy, (mean, inverse, gamma, *targets), mode)
            return dy
        if len(x.shape) == 3:
            self._image_backward(build, x, dy, (mean, inverse, gamma, *targets), mode)
            return dy
        operands = (
            x,
            dy,
            mean,
            inverse,
            gamma,
            *targets,
            x.width,
            int(build.input_gradient_wanted),
            mode,
        )
        accesses = reads_own(x, mean, inverse, gamma) + writes_own(dy, *targets)
        build.step("norm.batch_backward", operands, accesses, COLUMNS, (-1, x.width), bytes=30.0 * x.width)
        return dy

    def _image_backward(self, build: Build, x: Buffer, dy: Buffer, others: tuple[Buffer, ...], rides: int) -> None:
        pixels, width = count(x.shape[:2]), x.shape[-1]
        sums = self.chunk_gradients(build, x, dy, others[0])
        factors = self.factors(build, width)
        operands: tuple = (sums, *others, *factors, pixels, width, rides)
        accesses = reads(sums) + reads_own(*others[:3]) + writes_own(*others[3:], *factors)
        build.step("channel_norm.combine_gradients", operands, accesses, COLUMNS, (-1, width), bytes=8.0 * sums.width)
        if build.input_gradient_wanted:
            cut = cut_of(usual_share(x.shape), x.shape)
            accesses = reads_own(x) + reads(*factors) + writes_own(dy)
            operands = (x, dy, *factors, pixels, width)
            build.step("channel_norm.input_gradient", operands, accesses, *cut, bytes=12.0 * x.width)

    def chunk_gradients(self, build: Build, x: Buffer, dy: Buffer, mean: Buffer) -> Buffer:
        """Sums of dy and dy (x - mean) of each channel of each chunk of each image."""
        pixels, width = count(x.shape[:2]), x.shape[-1]
        sums, chunks = self._chunks(build, "gradient_sums", x.shape), (PIXELS, (-1, -(-pixels // CHUNK_PIXELS), 1))
        accesses = reads(x, dy, mean) + writes_own(sums)
        operands = (x, dy, mean, sums, pixels, width)
        build.step("channel_norm.gradient_sums", operands, accesses, *chunks, bytes=8.0 * x.width)
        return sums

    @staticmethod
    def factors(build: Build, width: int) -> tuple[Buffer, ...]:
        """a, b, s of the input's gradient: dx = a dy + b x + s."""
        return tuple(build.fixed(name, width) for name in ("gradient_a", "gradient_b", "gradient_s"))

    def _frozen_backward(self, build: Build, x: Buffer, dy: Buffer) -> Buffer:
        gamma, variance, width = build.weight("gamma"), build.weight("moving_variance"), x.shape[-1]
        if len(x.shape) == 3:
            operands: tuple = (dy, gamma, variance, count(x.shape[:2]), width, number(self.epsilon))
            accesses, cut = reads(gamma, variance) + writes_own(dy), cut_of(usual_share(x.shape), x.shape)
            build.step("channel_norm.frozen_gradient", operands, accesses, *cut, bytes=8.0 * x.width, scratch=2 * width)
            return dy
        operands = (dy, gamma, variance, width, number(self.epsilon))
        accesses = reads_own(gamma, variance) + writes_own(dy)
        build.step("norm.frozen_backward", operands, accesses, COLUMNS, (-1, width), bytes=8.0 * width)
        return dy
