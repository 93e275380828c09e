"""The window that convolutions and poolings move over an image: sizes, padding, the words kernels read. Stage: layers.

Must not know: kernels' code, executors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checks import is_whole
from ..errors import HyperparameterError, ShapeError, unknown_name
from ..kernels.step import Buffer, pair, reads, writes_own
from .activate import cut_of, usual_share
from .base import Build, Shape

PADDINGS = ("valid", "same")


def pair_of(value, what: str, smallest: int = 1) -> tuple[int, int]:
    """One whole number for both directions, or (height, width).

    Raises:
        HyperparameterError: it is neither.
    """
    try:
        items = (value, value) if is_whole(value) else tuple(value)
    except TypeError:
        items = ()
    if len(items) != 2 or not all(is_whole(n, smallest) for n in items):
        raise HyperparameterError(
            f"{what}: expected a whole number of at least {smallest} or a pair of them, received {value!r}"
        )
    return int(items[0]), int(items[1])


def expect_image(shape: Shape, where: str) -> None:
    """Raises ShapeError unless the shape is that of an image."""
    if len(shape) != 3:
        received = ", ".join(map(str, shape))
        advice = f"; reshape it to (batch, {received}, 1)" if len(shape) == 2 else ""
        raise ShapeError(f"{where}: expected input (batch, height, width, channels), received (batch, {received}){advice}")


@dataclass(frozen=True)
class Window:
    """A window's size and way over the image, each (height, width).

    Attributes:
        taps: its size.
        steps: pixels from one window to the next.
        padding: "valid" or "same".
        dilation: pixels from one tap to the next.
    """

    taps: tuple[int, int]
    steps: tuple[int, int]
    padding: str
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, where: str, taps, steps, padding, dilation=1) -> Window:
        """From a layer's arguments. Raises HyperparameterError."""
        if str(padding).lower() not in PADDINGS:
            raise unknown_name(f"{where} padding", padding, PADDINGS)
        named = {"kernel_size": taps, "strides": steps, "dilation_rate": dilation}
        sizes = {name: pair_of(value, f"{where}: {name}") for name, value in named.items()}
        return cls(sizes["kernel_size"], sizes["strides"], str(padding).lower(), sizes["dilation_rate"])

    @property
    def reach(self) -> tuple[int, int]:
        """Pixels from the first to the last tap, both counted."""
        return tuple((n - 1) * d + 1 for n, d in zip(self.taps, self.dilation, strict=True))  # type: ignore[return-value]

    def output_size(self, shape: Shape, where: str) -> tuple[int, int]:
        """Height and width of the output. Raises ShapeError where the window does not fit."""
        expect_image(shape, where)
        if self.padding == "valid" and any(r > n for r, n in zip(self.reach, shape, strict=False)):
            raise ShapeError(
                f"{where}: expected an image of at least {self.reach[0]} x {self.reach[1]} for padding='valid', "
                f"received {shape[0]} x {shape[1]}; use padding='same' or a smaller window"
            )
        return self.placed(shape).out

    def placed(self, shape: Shape) -> PlacedWindow:
        """The window on images of that shape; padding as TensorFlow's: the odd pixel below and right."""
        out, before = [], []
        for n, reach, step in zip(shape, self.reach, self.steps, strict=False):
            size = -(-n // step) if self.padding == "same" else (n - reach) // step + 1
            total = max(0, (size - 1) * step + reach - n) if self.padding == "same" else 0
            out.append(size)
            before.append(total // 2)
        return PlacedWindow(self, (shape[0], shape[1]), shape[2], (out[0], out[1]), (before[0], before[1]))


@dataclass(frozen=True)
class PlacedWindow:
    """A window on images of a known size.

    Attributes:
        window: its size and way.
        size: of the image; channels: of it.
        out: how many windows there are.
        before: pixels of padding above and left.
    """

    window: Window
    size: tuple[int, int]
    channels: int
    out: tuple[int, int]
    before: tuple[int, int]

    @property
    def pads_sideways(self) -> bool:
        """Whether a tap may lie left or right of the image."""
        last = (self.out[1] - 1) * self.window.steps[1] + self.window.reach[1] - self.before[1]
        return self.before[1] > 0 or last > self.size[1]

    @property
    def pointwise(self) -> bool:
        """One tap that takes each pixel once."""
        return self.window.taps == (1, 1) and self.window.steps == (1, 1)

    def words(self, channels: int, outputs: int, groups: int, merged: bool) -> tuple[int, ...]:
        """The geometry as `parnet.kernels.conv` reads it."""
        window = self.window
        return (
            pair(*self.size),
            pair(*self.out),
            pair(channels, outputs),
            pair(*window.taps),
            pair(groups, int(merged)),
            pair(*window.dilation),
            pair(*window.steps),
            pair(*self.before),
        )

    def pad(self, build: Build, x: Buffer) -> tuple[Buffer, PlacedWindow]:
        """Put the padding into a larger image: what is left is a window without padding."""
        window = self.window
        need = [(o - 1) * s + r for o, s, r in zip(self.out, window.steps, window.reach, strict=True)]
        size = (max(need[0], self.size[0] + self.before[0]), max(need[1], self.size[1] + self.before[1]))
        y = build.rows("padded", (*size, self.channels))
        add_padding(build, x, y, self.before)
        return y, replace(self, size=size, before=(0, 0))


def add_padding(build: Build, x: Buffer, y: Buffer, before: tuple[int, int]) -> None:
    """The step that lays x into the zeros of y, `before` pixels down and right."""
    (height, width, channels), (out_height, out_width, _) = x.shape, y.shape
    share = usual_share(y.shape)
    operands = (x, y, pair(height, width), pair(out_height, out_width), pair(*before), channels)
    build.step("image.pad", operands, reads(x) + writes_own(y), *cut_of(share, y.shape), bytes=4.0 * (x.width + y.width))


def take_padding_off(build: Build, dy: Buffer, shape: Shape, dx: Buffer, before: tuple[int, int]) -> None:
    """The step that cuts the padding off images of that shape again: the gradient of `add_padding`."""
    (height, width, channels), (out_height, out_width, _) = dx.shape, shape
    operands = (dy, dx, pair(out_height, out_width), pair(height, width), pair(*before), channels)
    build.step(
        "image.crop", operands, reads(dy) + writes_own(dx), *cut_of(usual_share(dx.shape), dx.shape), bytes=8.0 * dx.width
    )
