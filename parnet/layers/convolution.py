"""Convolution of images. Stage: layers. Must not know: executors, threads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import activations, constraints, initializers, regularizers
from ..checks import check_flag, is_whole
from ..errors import HyperparameterError, ShapeError
from ..kernels.step import (
    PANEL,
    PANELS,
    ROWS_SHARED,
    Buffer,
    image_share,
    number,
    reads,
    reads_own,
    row_stride,
    window_panel,
    writes_own,
)
from . import winograd
from .activate import activate, activate_backward, cut_of
from .base import Build, Layer, Shape, Tail, Weight, count
from .window import PlacedWindow, Window

#: numbers of x that a block of rows should keep in a core's own cache, and rows of a block at most
BLOCK_NUMBERS, LARGEST_BLOCK = 100_000, 256
#: pixels that the weight gradient sums at a time
SUM_PIXELS = 384
#: up to this many channels a window's taps are too short to be summed one by one: the image is padded first
FEW_CHANNELS = 8
#: rows that a part of the weight gradient owns whole runs of
GRAIN = 24
#: bits of the flags of `conv.forward`
HAS_BIAS, HAS_OTHER, HAS_RELU, HAS_NORM = 1, 2, 4, 8
NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


class Conv2D(Layer):
    """Y = activation(X * W + b), a window of the image times W at every place. Source: LeCun et al. 1989; as Keras's.

    In inference 3 x 3 windows of step one with enough channels go by Winograd's transforms, with 16 products in place of 36:
    numbers differ from those of training in the last bits (1e-6 relative in float32), and are the same for any batch,
    threads and workers; a NaN or an infinity spreads over 2 x 2 pixels. `plan.explain()` shows where ("winograd.forward").
    Source: Lavin & Gray 2016.

    Args:
        filters: output channels F.
        kernel_size, strides, dilation_rate: of the window, one number or (height, width).
        padding: "valid" (none) or "same" (zeros, so that the output is ceil(input / strides)).
        groups: channels and filters are split into so many groups that do not see each other.
        activation: name, Activation or None for linear.
        use_bias: whether b is added.
        kernel_constraint, bias_constraint: what they must satisfy after each update, see `parnet.constraints`; or None.
    Input:
        (batch, height, width, C).
    Output:
        (batch, new height, new width, F).
    Weights:
        kernel (kh, kw, C / groups, F), bias (F,).
    Raises:
        HyperparameterError: a size that is no whole number above 0, an unknown padding.
        ShapeError: the input is not (batch, height, width, C), smaller than the window, or not divisible by groups.

    >>> from parnet import layers as L
    >>> L.Conv2D(64, 3, activation="relu").output_shape((28, 28, 1))
    (26, 26, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size,
        strides=1,
        padding: str = "valid",
        dilation_rate=1,
        groups: int = 1,
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
        for name, value in (("filters", filters), ("groups", groups)):
            if not is_whole(value, 1):
                raise HyperparameterError(f"Conv2D: expected {name}, a whole number above 0, received {value!r}")
        self.filters, self.groups = int(filters), int(groups)
        if self.filters % self.groups:
            raise HyperparameterError(f"Conv2D: expected filters in {groups} equal groups, received {filters} filters")
        self.window = Window.of("Conv2D", kernel_size, strides, padding, dilation_rate)
        self.kernel_size, self.strides = self.window.taps, self.window.steps
        self.padding, self.dilation_rate = self.window.padding, self.window.dilation
        self.activation = activations.get(activation)
        self.use_bias = check_flag(use_bias, "Conv2D(use_bias)")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @staticmethod
    def examples() -> list[tuple[Conv2D, Shape]]:
        return [
            (Conv2D(5, 3), (5, 6, 2)),
            (Conv2D(4, (2, 3), strides=2, padding="same", activation="tanh"), (7, 6, 1)),
            (Conv2D(6, 3, padding="same", dilation_rate=2, groups=3), (5, 5, 6)),
            (Conv2D(50, 1, use_bias=False, activation="sigmoid"), (3, 3, 17)),
            (Conv2D(3, 3, strides=(2, 1), padding="same", activation="gelu"), (6, 5, 12)),
            (Conv2D(2, 2, strides=3, kernel_regularizer="l2"), (8, 9, 3)),
        ]

    def describe(self) -> str:
        return f"Conv2D {self.filters}"

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        shape = (*self.window.taps, input_shape[-1] // self.groups, self.filters)
        panel, constraint = window_panel(self.filters), self.kernel_constraint
        kernel = Weight("kernel", shape, self.kernel_initializer, self.kernel_regularizer, True, panel, constraint)
        bias = Weight("bias", (self.filters,), self.bias_initializer, self.bias_regularizer, constraint=self.bias_constraint)
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_shape(self, input_shape: Shape) -> Shape:
        size = self.window.output_size(input_shape, self.label())
        if input_shape[-1] % self.groups:
            raise ShapeError(
                f"{self.label()}: expected channels in {self.groups} equal groups, received {input_shape[-1]} channels"
            )
        return (*size, self.filters)

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        relu = self.activation.name == "relu" and not build.fused_output
        y = self._forward(build, x, Tail(relu=relu), training)
        if relu:
            build.keep(activated=y, summed=y)
            return y
        return activate(build, y, None, self.activation)

    def takes(self, tail: Tail) -> bool:
        return self.activation.name == "linear"

    def forward_with(self, build: Build, x: Buffer, tail: Tail) -> Buffer:
        return self._forward(build, x, tail, training=False)

    def _forward(self, build: Build, x: Buffer, tail: Tail, training: bool) -> Buffer:
        window = self.window.placed(x.shape)
        padded = x.shape[-1] <= FEW_CHANNELS and window.pads_sideways and self.groups == 1
        source, inner = window.pad(build, x) if padded else (x, window)
        product = Product(inner, self.filters, self.groups)
        y = build.rows("y", (*window.out, self.filters))
        bias = (build.weight("bias"),) if self.use_bias else ()
        other = () if tail.other is None else (tail.other,)
        flags = HAS_BIAS * len(bias) + HAS_OTHER * len(other) + HAS_RELU * tail.relu + HAS_NORM * bool(tail.norm)
        norm = tuple(build.weight(name, tail.norm) for name in NORM_WEIGHTS) if tail.norm else ()
        epsilon = (number(tail.epsilon),) if tail.norm else ()
        ends, norm_words = (*(bias or (0,)), *(other or (0,)), flags), (*norm, *epsilon)
        build.keep(x=source, shown=x)
        if build.shortcuts and not training and winograd.suits(window, self.filters, self.groups):
            winograd.declare(build, x, y, window, ends, product.words(), norm_words, (*other, *bias, *norm))
            return y
        share, kernel = product.share(build.batch, build.threads), build.weight("kernel")
        block = product.block(build.batch * product.pixels // (1 if share == PANELS else build.threads))
        operands = (source, kernel, y, *ends, *product.words(), share, block, *norm_words)
        own = window.pointwise and share != PANELS
        # with columns shared, another part may have written what is added
        accesses = (reads_own if own else reads)(source) + (reads if share == PANELS else reads_own)(*other)
        accesses += reads(kernel, *bias, *norm) + writes_own(y)
        cut = (PANELS, (-1, self.filters)) if share == PANELS else cut_of(share, y.shape)
        build.step("conv.forward", operands, accesses, *cut, product.flops, product.bytes, scratch=product.scratch(block))
        return y

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        activate_backward(build, dy, self.activation)
        source, x = build.kept("x"), build.kept("shown")
        window = self.window.placed(x.shape)
        inner = window if source.name == x.name else replace(window, size=(source.shape[0], source.shape[1]), before=(0, 0))
        product = Product(inner, self.filters, self.groups)
        if self.trainable:
            self._weight_gradient(build, source, dy, product)
        if not build.input_gradient_wanted:
            return None
        return self._input_gradient(build, x, dy, Product(window, self.filters, self.groups))

    def _weight_gradient(self, build: Build, x: Buffer, dy: Buffer, product: Product) -> None:
        target, lines = build.gradient("kernel"), product.lines()
        bias = (build.gradient("bias"),) if self.use_bias else ()
        if bias:
            build.gradient_mode("bias")
        mode = build.gradient_mode("kernel")
        operands = (x, dy, target, *product.words(), lines, mode, *(bias or (0,)), int(self.use_bias))
        build.step(
            "conv_weights.gradient",
            operands,
            reads(x, dy) + writes_own(target, *bias),
            ROWS_SHARED,
            (8 * product.gradient_pieces,),
            product.flops,
            product.bytes,
            scratch=2 * lines + lines * product.window.out[1] * window_panel(self.filters) + 16,
        )

    def _input_gradient(self, build: Build, x: Buffer, dy: Buffer, product: Product) -> Buffer:
        kernel, dx = build.weight("kernel"), build.rows("dx", x.shape)
        channels, taps = x.shape[-1], product.window.window.taps
        turned = build.fixed("turned", product.turned_size())
        operands: tuple = (kernel, turned, count(taps), channels // self.groups, self.filters // self.groups, self.groups)
        blocks = count(taps) * -(-channels // window_panel(channels))
        build.step(
            "conv.turn_weights", operands, reads(kernel) + writes_own(turned), ROWS_SHARED, (blocks,),
            bytes=8.0 * turned.width, per_row=False,
        )  # fmt: skip
        share = product.gradient_share(build.batch, build.threads)
        rows = build.batch * count(x.shape[:2]) // count(self.strides)
        block = product.gradient_block(rows // (1 if share == PANELS else build.threads))
        operands = (turned, dy, dx, *product.words(merged=False), share, block)
        own = product.window.pointwise and share != PANELS
        accesses = reads(turned) + (reads_own if own else reads)(dy) + writes_own(dx)
        cut = (PANELS, (-1, channels)) if share == PANELS else cut_of(share, x.shape)
        build.step(
            "conv.input_gradient", operands, accesses, *cut, product.flops, product.bytes,
            scratch=product.gradient_scratch(block),
        )  # fmt: skip
        return dx


@dataclass(frozen=True)
class Product:
    """A convolution as a product of matrices: its sizes, cost, and how it is cut; for all three passes."""

    window: PlacedWindow
    filters: int
    groups: int

    @property
    def merged(self) -> bool:
        """Whether a row of taps is one run of neighbouring numbers."""
        window = self.window
        return self.groups == 1 and window.window.dilation[1] == 1 and not window.pads_sideways

    @property
    def taps(self) -> int:
        """Segments of a sum, and `depth` numbers in each."""
        kh, kw = self.window.window.taps
        return kh if self.merged else kh * kw

    @property
    def depth(self) -> int:
        channels = self.window.channels // self.groups
        return self.window.window.taps[1] * channels if self.merged else channels

    @property
    def pixels(self) -> int:
        """Of the output."""
        return count(self.window.out)

    @property
    def flops(self) -> float:
        """Of one image."""
        return 2.0 * self.pixels * self.filters * self.taps * self.depth

    @property
    def bytes(self) -> float:
        """Of one image, in and out."""
        return 4.0 * (count(self.window.size) * self.window.channels + self.pixels * self.filters)

    def words(self, merged: bool | None = None) -> tuple[int, ...]:
        """The geometry for the kernels."""
        merged = self.merged if merged is None else merged
        return self.window.words(self.window.channels // self.groups, self.filters // self.groups, self.groups, merged)

    def share(self, batch: int, threads: int) -> int:
        """Columns where the weights outweigh the pixels and can be dealt out, else pixels of the output."""
        return _share(self.filters, batch * self.pixels, threads)

    def gradient_share(self, batch: int, threads: int) -> int:
        """The same for the gradient of the input."""
        return _share(self.window.channels, batch * count(self.window.size), threads)

    def block(self, rows: int) -> int:
        """Rows of the product whose windows' places are looked up together, of so many that a part has."""
        return _block(rows, self.depth, self.taps, self.filters)

    def scratch(self, block: int) -> int:
        """Words of scratch memory that `conv.forward` needs."""
        return block + block * self.taps + 2 * self.taps + self.depth + 2 * self.filters + 16

    def gradient_block(self, rows: int) -> int:
        """The same for the gradient of the input."""
        return _block(rows, self.filters // self.groups, count(self.window.window.taps), self.window.channels)

    def gradient_scratch(self, block: int) -> int:
        """Words of scratch memory that `conv.input_gradient` needs."""
        taps = count(self.window.window.taps)
        return 6 + 3 * taps + block + block * taps + self.filters // self.groups + 16

    def lines(self) -> int:
        """Lines of pixels that the weight gradient sums at a time."""
        pixels = max(SUM_PIXELS // 4, min(SUM_PIXELS, 2 * BLOCK_NUMBERS // 3 // self.depth))
        return max(1, pixels // self.window.out[1])

    @property
    def gradient_pieces(self) -> int:
        """Runs of rows in panels of the weight gradient that a part can own."""
        return self.taps * -(-self.depth // GRAIN) * -(-self.filters // window_panel(self.filters))

    def turned_size(self) -> int:
        """Numbers that the transposed weights take."""
        height = count(self.window.window.taps) * (self.filters // self.groups)
        panel = window_panel(self.window.channels)
        whole, rest = divmod(self.window.channels, panel)
        return height * (whole * row_stride(panel) + (row_stride(rest) if rest else 0))


def _share(columns: int, rows: int, threads: int) -> int:
    panels = -(-columns // window_panel(columns))
    even = panels >= 4 * threads or panels % threads == 0
    return PANELS if threads > 1 and columns > rows and even else image_share(columns)


def _block(rows: int, depth: int, taps: int, columns: int) -> int:
    """Of a part's rows: few enough for the cache, whole tiles, no short block at the end that fetches all weights again."""
    most = min(LARGEST_BLOCK, max(32, BLOCK_NUMBERS // depth), max(32, 3000 // taps))
    each = -(-max(1, rows) // max(1, round(rows / most)))
    tile = 6 if window_panel(columns) > PANEL else 8
    return -(-each // tile) * tile
