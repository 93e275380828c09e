"""How a layer declares bias and activation, forward and backward; shared by all layers that have them. Stage: layers.

Must not know: which layer calls.
"""

from __future__ import annotations

from ..activations import Activation
from ..kernels.step import (
    COLUMNS,
    PIXELS,
    ROWS_SHARED,
    Buffer,
    image_share,
    number,
    pixel_grain,
    reads,
    reads_own,
    writes_own,
)
from .base import Build, Shape, count


def usual_share(shape: Shape) -> int:
    """The share word of elementwise work: pixels of images, columns of everything else."""
    return image_share(shape[-1]) if len(shape) == 3 else COLUMNS


def cut_of(share: int, shape: Shape) -> tuple[int, tuple[int, ...]]:
    """Share and extent of a step with that share word on buffers of that shape."""
    width = count(shape)
    if share < PIXELS:
        return share, (-1, width)
    return PIXELS, (-1, width // shape[-1], pixel_grain(shape[-1]))


def activate(
    build: Build, z: Buffer, bias: Buffer | None, activation: Activation, share: int | None = None, own: bool = True
) -> Buffer:
    """y = activation(z + bias), over z where the derivative allows it and z is the layer's own; else z stays as it is."""
    share = usual_share(z.shape) if share is None else share
    if activation.by_rows:
        if bias is not None:
            activate(build, z, bias, _LINEAR, share)
        y = z if own or build.fused_output else build.rows("activated", z.shape)
        if not build.fused_output:
            _by_rows(build, activation, z, y)
        build.keep(activated=y, summed=y)
        return y
    if build.fused_output:
        activation = _LINEAR
    if activation.name == "linear" and bias is None:
        build.keep(activated=z, summed=z)
        return z
    y = z if own and not activation.needs_input else build.rows("activated", z.shape)
    operands = (z, bias or 0, int(bias is not None), y, z.width, number(activation.alpha), share)
    accesses = writes_own(z, y) if bias else (reads_own(z) if y.name != z.name else ()) + writes_own(y)
    accesses += reads(bias) if bias else ()
    build.step(activation.kernel, operands, accesses, *cut_of(share, z.shape), bytes=8.0 * z.width)
    build.keep(activated=y, summed=z if activation.needs_input else y)
    return y


_LINEAR = Activation("linear")


def _by_rows(build: Build, activation: Activation, z: Buffer, y: Buffer) -> None:
    accesses = (reads_own(z) if y.name != z.name else ()) + writes_own(y)
    operands = (z, y, z.width, z.shape[-1])
    build.step(activation.kernel, operands, accesses, ROWS_SHARED, (-1, z.width), bytes=16.0 * z.width)


def activate_backward(build: Build, dy: Buffer, activation: Activation, share: int | None = None) -> None:
    """dy becomes the gradient of the sum before the activation, in place."""
    if build.fused_output or activation.name == "linear":
        return
    y, z = build.kept("activated"), build.kept("summed")
    if activation.by_rows:
        accesses = reads_own(y) + writes_own(dy)
        operands: tuple = (y, dy, y.width, y.shape[-1])
        build.step(activation.gradient_kernel, operands, accesses, ROWS_SHARED, (-1, y.width), bytes=12.0 * y.width)
        return
    share = usual_share(y.shape) if share is None else share
    operands = (z, y, dy, y.width, number(activation.alpha), share)
    accesses = reads_own(z, y) + writes_own(dy)
    build.step(activation.gradient_kernel, operands, accesses, *cut_of(share, y.shape), bytes=12.0 * y.width)
