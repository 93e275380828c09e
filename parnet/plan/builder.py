"""Collects the steps that layers, losses, metrics and optimizers declare. Stage: plan.

Its product is the list of steps and the buffers they touch; places, parts and barriers come later (`layout.py`,
`schedule.py`). Must not know: kernels' code, executors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import StateError
from ..kernels.step import (
    ADDS,
    COLUMNS,
    EACH,
    NARROW,
    PANEL,
    PIXELS,
    RIDES,
    ROWS_SHARED,
    STORES,
    Access,
    Buffer,
    Step,
    high,
    low,
    number,
    row_stride,
    writes_own,
)
from ..layers.activate import cut_of, usual_share
from ..layers.base import Layer, Shape, Weight, count
from .schedule import product_share


@dataclass(frozen=True)
class Placed:
    """A layer's weight and where it lies in its region, in elements."""

    key: str
    weight: Weight
    region: str
    offset: int
    trainable: bool

    @property
    def size(self) -> int:
        """Elements it takes, padding included."""
        return sum(panel.size for panel in self.panels)

    @property
    def count(self) -> int:
        """Numbers in it."""
        return count(self.weight.shape)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """How it lies: a vector as one run, a matrix as panels of columns; see `parnet.kernels.step.PANEL`."""
        *rows, width = self.weight.shape
        if not rows:
            return (Panel(0, 0, width, 1, width, transposed=False),)
        height, result, most = count(tuple(rows)), [], self.weight.panel or PANEL
        for column in range(0, width, most):
            wide = min(most, width - column)
            narrow = column > 0 and wide <= NARROW and not self.weight.panel
            result.append(Panel(column * height, column, wide, height, row_stride(height if narrow else wide), narrow))
        return tuple(result)

    def read(self, vector: np.ndarray) -> np.ndarray:
        """A copy of the weight, in its shape, from its region's vector."""
        if len(self.weight.shape) == 1:
            return vector[self.offset : self.offset + self.size].copy()
        result = np.empty((count(self.weight.shape[:-1]), self.weight.shape[-1]), vector.dtype)
        for panel in self.panels:
            result[:, panel.column : panel.column + panel.width] = panel.view(vector[self.offset :])
        return result.reshape(self.weight.shape)

    def write(self, vector: np.ndarray, values: np.ndarray) -> None:
        """Put an array of the weight's shape into its region's vector."""
        if len(self.weight.shape) == 1:
            vector[self.offset : self.offset + self.size] = values
            return
        matrix = np.asarray(values).reshape(-1, self.weight.shape[-1])
        for panel in self.panels:
            panel.view(vector[self.offset :])[...] = matrix[:, panel.column : panel.column + panel.width]

    def place(self, entry: tuple[int, ...]) -> int:
        """Where one of its numbers lies in its region's vector."""
        *rows, column = entry
        panel = next(p for p in self.panels if p.column <= column < p.column + p.width)
        row = int(np.ravel_multi_index(rows, self.weight.shape[:-1])) if rows else 0
        major, minor = (column - panel.column, row) if panel.transposed else (row, column - panel.column)
        return self.offset + panel.first + major * panel.stride + minor


@dataclass(frozen=True)
class Panel:
    """Some columns of a matrix of weights as one run of memory.

    Attributes:
        first: where it starts in the weight, elements.
        column, width: which columns.
        height: rows of the matrix.
        stride: elements from one row to the next; when transposed from one column to the next.
        transposed: its columns lie as rows.
    """

    first: int
    column: int
    width: int
    height: int
    stride: int
    transposed: bool

    @property
    def size(self) -> int:
        return self.stride * (self.width if self.transposed else self.height)

    def view(self, weight: np.ndarray) -> np.ndarray:
        """The panel as a view (height, width) of the weight's run."""
        run = weight[self.first : self.first + self.size].reshape(-1, self.stride)
        return run[:, : self.height].T if self.transposed else run[:, : self.width]


#: weights start at multiples of this many elements, a cache line or more
ALIGNMENT = 16


def align(n: int) -> int:
    """n rounded up to a whole cache line."""
    return -(-n // ALIGNMENT) * ALIGNMENT


def place_weights(
    layers: tuple[Layer, ...], shapes: tuple, known: Mapping[str, Placed], sizes: Mapping[str, int]
) -> tuple[dict[str, Placed], dict[str, int]]:
    """Where every weight lies: trainable ones in "parameters", moving averages in "state".

    Args:
        layers: in order.
        shapes: the input shape of each, of a merging layer all of them.
        known: weights that have their places already.
        sizes: length of the regions so far; new weights go behind it.
    Returns:
        "layer/weight" -> Placed, in order; region -> its length.
    Raises:
        HyperparameterError: a constraint that does not fit its weight.
    """
    sizes = {"parameters": 0, "state": 0} | dict(sizes)
    placed = {}
    for layer, shape in zip(layers, shapes, strict=True):
        for weight in layer.weights(shape):
            region = "parameters" if weight.trainable else "state"
            if weight.constraint is not None:
                weight.constraint.check(weight.shape, f"{layer.label()}: {weight.name}_constraint")
            key, trainable = f"{layer.name}/{weight.name}", weight.trainable and layer.trainable
            if key in known:
                placed[key] = replace(known[key], trainable=trainable)
                continue
            placed[key] = Placed(key, weight, region, sizes[region], trainable)
            sizes[region] += align(placed[key].size)
    return placed, sizes


@dataclass
class Source:
    """An input of the model.

    Attributes:
        buffer: that the batch is gathered into.
        scale, offset: what is done to it on the way.
    """

    buffer: Buffer
    scale: float = 1.0
    offset: float = 0.0


@dataclass
class Builder:
    """What a layer is handed to declare its work; see `parnet.layers.base.Build`.

    Attributes:
        batch: rows of a full batch; where it is cut into virtual shards, of a full shard.
        threads: parts at most.
        placed: the model's weights.
        riding: keys of weights whose update rides on their gradient's step.
        shards: virtual shards of a batch.
        after: collects the steps that come once a batch, when all shards are done; None where there is one shard.
        exchanged: places in the region "exchange", and under "" its length, elements.
        inputs: of the model.
        readers: of each buffer, how many nodes and outputs read it, or a view of it.
        delivered: keys of weights whose gradient, or a part of it, has been declared.
        asked: keys of weights whose `gradient_mode` the layer at hand has asked for.
        shortcuts: whether work may be gone round as only the CPU's kernels can, see `Request`.
        prepared: steps that come first, and are left out while the weights stay what they are.
    """

    batch: int
    threads: int
    placed: dict[str, Placed]
    riding: frozenset[str] = frozenset()
    shards: int = 1
    after: Builder | None = None
    exchanged: dict[str, int] = field(default_factory=dict)
    shortcuts: bool = True
    steps: list[Step] = field(default_factory=list)
    prepared: list[Step] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    phase: str = "forward"
    label: str = ""
    prefix: str = ""
    node: int = 0
    fused_output: bool = False
    gradients_wanted: tuple[bool, ...] = ()
    given: tuple[Shape, ...] = ()
    inputs: list[Source] = field(default_factory=list)
    readers: Counter[str] = field(default_factory=Counter)
    delivered: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    _kept: dict[tuple[int, str], Buffer] = field(default_factory=dict)
    _held: list[tuple[str, tuple, dict]] = field(default_factory=list)

    def enter(
        self,
        node: int,
        label: str,
        fused_output: bool = False,
        gradients_wanted: tuple[bool, ...] = (),
        prefix: str = "",
        given: tuple[Shape, ...] = (),
    ) -> None:
        """The steps that follow belong to that layer; its buffers' names begin with `prefix`, or its name."""
        self.node, self.label, self.prefix, self.given = node, label, prefix or label, given
        self.fused_output, self.gradients_wanted = fused_output, gradients_wanted
        self.asked = set()

    @property
    def input_gradient_wanted(self) -> bool:
        """Somebody before this layer needs the gradient of its input, or of one of them."""
        return any(self.gradients_wanted)

    def weight(self, name: str, owner: str = "") -> Buffer:
        """The layer's weight of that name, or another layer's."""
        placed = self.placed[f"{owner or self.label}/{name}"]
        return self._add(Buffer(placed.key, placed.region, placed.size, shape=placed.weight.shape))

    def gradient(self, name: str) -> Buffer:
        """The gradient of the layer's weight of that name."""
        placed = self.placed[f"{self.label}/{name}"]
        return self._add(Buffer(f"d {placed.key}", "gradients", placed.size, shape=placed.weight.shape))

    def rides(self, name: str) -> bool:
        """Whether the weight is updated by the step that makes its gradient, which is then never stored."""
        return f"{self.label}/{name}" in self.riding

    def gradient_mode(self, name: str) -> int:
        """What becomes of the weight's gradient, as the kernels read it; see `parnet.kernels.product.gradient_mode`."""
        self.asked.add(f"{self.label}/{name}")
        if self.rides(name):
            return RIDES
        return ADDS if f"{self.label}/{name}" in self.delivered else STORES

    def rows(self, name: str, shape: Shape) -> Buffer:
        """A buffer with one row a sample."""
        return self._add(Buffer(f"{self.prefix}/{name}", "arena", count(shape), per_row=True, shape=shape))

    def turned(self, name: str, width: int) -> Buffer:
        """A buffer (width, batch): a batch with its features as rows."""
        return self.fixed(name, width * row_stride(self.batch))

    def fixed(self, name: str, width: int) -> Buffer:
        """A buffer of `width` numbers, whatever the batch."""
        return self._add(Buffer(f"{self.prefix}/{name}", "arena", width, shape=(width,)))

    def product_share(self, width: int) -> int:
        """Who owns what of a product with that many columns."""
        return product_share(width, self.batch, self.threads)

    def keep(self, **buffers: Buffer) -> None:
        """Remember buffers from forward for backward."""
        for name, buffer in buffers.items():
            self._kept[self.node, name] = buffer

    def kept(self, name: str) -> Buffer:
        """What this layer's forward pass kept under that name."""
        try:
            return self._kept[self.node, name]
        except KeyError:
            raise StateError(f"{self.label}: backward asks for {name!r}, which forward did not keep") from None

    def sole_reader(self, x: Buffer) -> bool:
        """Whether nobody but this layer reads x, now or in the backward pass: then it may write over it."""
        return self.readers[x.name] == 1 and all(kept.name != x.name for kept in self._kept.values())

    def fold_into_input(self, x: Buffer, scale: float, offset: float) -> bool:
        """Let the gather step compute scale x + offset, if x is an input that nobody else reads."""
        source = next((s for s in self.inputs if s.buffer.name == x.name), None)
        if source is None or not self.sole_reader(x) or any(_touches(s, x) for s in self.steps):
            return False
        source.scale *= scale
        source.offset = source.offset * scale + offset
        return True

    def without_padding(self, x: Buffer, most: tuple[int, int]) -> tuple[Buffer, tuple[int, int]]:
        """What the last step has laid into the zeros of x, where nobody else reads x; see `parnet.layers.base.Build`."""
        last = self.steps[-1] if self.steps else None
        if last is None or last.kernel != "image.pad" or last.operands[1] != x or not self.sole_reader(x):
            return x, (0, 0)
        inner, before = last.operands[0], (high(last.operands[4]), low(last.operands[4]))
        behind = tuple(n - m - b for n, m, b in zip(x.shape, inner.shape, before, strict=False))
        if any(b >= n for b, n in zip((*before, *behind), (*most, *most), strict=True)):
            return x, (0, 0)
        self.steps.pop()
        del self.buffers[x.name]
        return inner, before

    def step(
        self,
        kernel: str,
        operands: tuple,
        accesses: tuple[Access, ...],
        share: int,
        extent: tuple[int, ...],
        flops: float = 0.0,
        bytes: float = 0.0,
        per_row: bool = True,
        scratch: int = 0,
    ) -> None:
        """Declare one kernel call; see `parnet.kernels.step.Step`."""
        where = (self.label, self.phase)
        self.steps.append(Step(kernel, operands, accesses, share, extent, flops, bytes, per_row, *where, scratch=scratch))

    def prepare(self, kernel: str, operands: tuple, accesses: tuple, share: int, extent: tuple, bytes: float) -> None:
        """Declare a step that makes of weights alone what the plan keeps; see `parnet.layers.base.Build`."""
        step = Step(kernel, operands, accesses, share, extent, 0.0, bytes, False, self.label, "prepare")
        self.prepared.append(step)

    def step_after_loss(self, *args, **kwargs) -> None:
        """As `step`, for what outlasts the batch, such as moving averages: held back until `release`.

        Of a batch in shards such a step runs once, when all shards are done.
        """
        self._held.append((self.label, args, kwargs))

    def release(self) -> None:
        """Now come the steps that were held back."""
        build = self.after or self
        for label, args, kwargs in self._held:
            build.label, build.phase = label, self.phase
            for access in args[2]:
                build._add(access.buffer)
            build.step(*args, **kwargs)
        self._held.clear()

    def mark(self) -> tuple[int, int]:
        """The place in the list of steps that `rewind` goes back to."""
        return len(self.steps), len(self._held)

    def rewind(self, mark: tuple[int, int]) -> None:
        """Forget the steps declared since the mark."""
        del self.steps[mark[0] :], self._held[mark[1] :]

    def exchange(self, name: str, width: int) -> Buffer:
        """A buffer of `width` numbers for each shard, which all shards may read once those who write have met."""
        size = align(self.shards * width)
        buffer = self._add(Buffer(f"{self.prefix}/{name}", "exchange", size, shape=(self.shards, width)))
        if buffer.name not in self.exchanged:
            self.exchanged[buffer.name] = self.exchanged.setdefault("", 0)
            self.exchanged[""] += buffer.width
        return buffer

    def _add(self, buffer: Buffer) -> Buffer:
        return self.buffers.setdefault(buffer.name, buffer)


def _touches(step: Step, buffer: Buffer) -> bool:
    return any(a.buffer.name == buffer.name for a in step.accesses)


def gather_steps(build: Builder, kinds: tuple[str, ...], own_copy: bool) -> list[Step]:
    """The steps that bring the batch into the input buffers, each cut as its first reader needs it.

    Args:
        kinds: dtype of the data of each input, "uint8", "float32" or "float64".
        own_copy: every part may gather the whole batch for itself.
    """
    pairs = enumerate(zip(build.inputs, kinds, strict=True))
    return [_gather_step(build, source, kind, place, own_copy) for place, (source, kind) in pairs]


def _gather_step(build: Builder, source: Source, kind: str, place: int, own_copy: bool) -> Step:
    x = source.buffer
    reader = next((s for s in build.steps if _touches(s, x)), None)
    share = ROWS_SHARED
    if reader is not None and reader.share == COLUMNS:
        share = COLUMNS
        if reader.kernel.startswith("product.") and own_copy:
            share = EACH
    if share == EACH:
        build.buffers[x.name] = replace(x, copies=True)
    cut = ROWS_SHARED if share == EACH else share
    extent: tuple[int, ...] = (-1, x.width) if share == COLUMNS else (-1,)
    if reader is not None and reader.share == PIXELS and len(x.shape) == 3:
        cut, (share, extent) = usual_share(x.shape), cut_of(usual_share(x.shape), x.shape)
    operands = (x, x.width, number(source.scale), number(source.offset), cut, place, 1)
    cost = {"uint8": 5.0, "float32": 10.0, "float64": 16.0}[kind] * x.width
    return Step(f"gather.{kind}", operands, writes_own(x), share, extent, 0.0, cost, True, "input", "input")
