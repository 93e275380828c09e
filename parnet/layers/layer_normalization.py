"""Layer normalisation. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from .. import constraints, initializers, regularizers
from ..checks import check_flag, is_whole
from ..errors import HyperparameterError
from ..kernels.step import COLUMNS, LINE, PIXELS, Buffer, image_share, number, reads, reads_own, writes_own
from .activate import cut_of
from .base import Build, Layer, Shape, Weight, count

#: positions whose sums one part makes; `kernels.layer_norm.CHUNK`
CHUNK = 32


class LayerNormalization(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance over the last axis of each sample.

    The same in training and in inference, whatever the batch. Of images each pixel is normalised over its channels, as in
    Keras. Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4.

    Args:
        axis: -1, the last; no other is known.
        epsilon: added to the variance, above 0.
        center, scale: whether there is a beta, a gamma.
    Input, output:
        (batch, C), (batch, height, width, C), or more or fewer axes before C.
    Weights:
        gamma, beta (C,).
    Raises:
        HyperparameterError: an epsilon that is not above 0, another axis.

    >>> from parnet import layers as L
    >>> L.LayerNormalization().output_shape((7, 7, 96))
    (7, 7, 96)
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **base,
    ):
        super().__init__(**base)
        if not is_whole(axis) or int(axis) != -1:
            raise HyperparameterError(
                f"LayerNormalization: expected axis=-1, the last, received {axis!r}; reshape so that it is the last"
            )
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < float("inf"):
            raise HyperparameterError(f"LayerNormalization: expected a finite epsilon above 0, received {epsilon!r}")
        self.axis, self.epsilon = -1, float(epsilon)
        self.center = check_flag(center, "LayerNormalization(center)")
        self.scale = check_flag(scale, "LayerNormalization(scale)")
        self.beta_initializer, self.gamma_initializer = (
            initializers.get(beta_initializer),
            initializers.get(gamma_initializer),
        )
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    @staticmethod
    def examples() -> list[tuple[LayerNormalization, Shape]]:
        return [
            (LayerNormalization(), (5,)),
            (LayerNormalization(epsilon=1e-2), (37,)),
            (LayerNormalization(center=False), (3, 4, 17)),
            (LayerNormalization(scale=False), (2, 9)),
            (LayerNormalization(center=False, scale=False), (2, 2, 4)),
        ]

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        shape = input_shape[-1:]
        gamma = Weight("gamma", shape, self.gamma_initializer, self.gamma_regularizer, constraint=self.gamma_constraint)
        beta = Weight("beta", shape, self.beta_initializer, self.beta_regularizer, constraint=self.beta_constraint)
        return ((gamma,) if self.scale else ()) + ((beta,) if self.center else ())

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        y, pixels, width = build.rows("y", x.shape), count(x.shape[:-1]), x.shape[-1]
        mean, inverse = build.rows("mean", x.shape[:-1]), build.rows("inverse", x.shape[:-1])
        gamma, beta = self._if(build, "gamma", self.scale), self._if(build, "beta", self.center)
        operands = (
            x, y, *(gamma or (0,)), *(beta or (0,)), mean, inverse, int(self.scale), int(self.center), pixels, width,
            number(self.epsilon),
        )  # fmt: skip
        accesses = reads_own(x) + reads(*gamma, *beta) + writes_own(y, mean, inverse)
        cut = cut_of(image_share(width), x.shape)
        build.step("layer_norm.forward", operands, accesses, *cut, bytes=20.0 * x.width, scratch=2 * width)
        build.keep(x=x, mean=mean, inverse=inverse)
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        x, mean, inverse = build.kept("x"), build.kept("mean"), build.kept("inverse")
        pixels, width, pitch = count(x.shape[:-1]), x.shape[-1], -(-x.shape[-1] // LINE) * LINE
        wanted = self.trainable and (self.scale or self.center)
        if not (wanted or build.input_gradient_wanted):
            return None
        sums: tuple[Buffer, ...] = (
            (build.fixed("gradient_sums", -(-build.batch * pixels // CHUNK) * 2 * pitch),) if wanted else ()
        )
        gamma = self._if(build, "gamma", self.scale)
        operands: tuple = (
            x, dy, mean, inverse, *(gamma or (0,)), *(sums or (0,)), int(self.scale), pixels, width,
            int(build.input_gradient_wanted), int(wanted),
        )  # fmt: skip
        accesses = reads(x, mean, inverse, *gamma) + writes_own(dy, *sums)
        cut = (PIXELS, (-1, pixels, CHUNK))
        build.step("layer_norm.backward", operands, accesses, *cut, bytes=30.0 * x.width, scratch=width)
        if wanted:
            self._combine(build, sums[0], pixels, width)
        return dy if build.input_gradient_wanted else None

    def _combine(self, build: Build, sums: Buffer, pixels: int, width: int) -> None:
        dgamma = (build.gradient("gamma"),) if self.scale else ()
        dbeta = (build.gradient("beta"),) if self.center else ()
        operands = (
            sums, *(dgamma or (0,)), *(dbeta or (0,)), int(self.scale), int(self.center), pixels, width,
            build.gradient_mode("gamma") if dgamma else 0, build.gradient_mode("beta") if dbeta else 0,
        )  # fmt: skip
        cost = 8.0 * pixels * width / CHUNK
        accesses = reads(sums) + writes_own(*dgamma, *dbeta)
        build.step("layer_norm.combine", operands, accesses, COLUMNS, (-1, width), bytes=cost, scratch=width)

    @staticmethod
    def _if(build: Build, name: str, there: bool) -> tuple[Buffer, ...]:
        """The weight, if there is one."""
        return (build.weight(name),) if there else ()
