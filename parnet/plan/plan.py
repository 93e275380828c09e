"""Puts a plan together: everything an executor needs to know, as plain data. Stage: plan.

    plan = make_plan(network, batch=32, ...)      pure: no array is allocated, no kernel compiled
    print(plan.explain())

Must not know: executors, kernels' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..activations import Activation
from ..kernels.step import ROWS_SHARED, Buffer, Step, number, writes_own
from ..layers.base import Layer, Shape, count
from ..losses import Loss
from ..metrics import Metric
from ..optimizers import Optimizer
from .builder import Builder, Placed, gather_steps, place_weights
from .layout import lifetimes, place, stages
from .objective import Targets, add_loss, add_penalties, metric_slots
from .schedule import Slot, cost_us, schedule
from .update import add_updates, slot_size

#: a batch is gathered by each part for itself up to this many elements; larger ones would crowd the parts' caches
OWN_COPY_ELEMENTS = 64 * 1024
#: larger batches make the gradient in blocks of rows, which a riding update cannot: 1004 us for 512 rows of 784 x 100
MOST_RIDING_ROWS = 128


@dataclass(frozen=True)
class Network:
    """What a model is to the planner.

    Attributes:
        layers: in order, all named.
        shapes: input shape of each layer; the last entry is the output's.
        placed: weights by "layer/weight".
        sizes: length of the regions "parameters" and "state".
    """

    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    placed: dict[str, Placed]
    sizes: dict[str, int]

    @classmethod
    def of(cls, layers: Sequence[Layer], input_shape: Shape) -> Network:
        """Walk the shapes through the layers. Raises ShapeError at the first that cannot take its input."""
        shapes = [input_shape]
        for layer in layers:
            shapes.append(layer.output_shape(shapes[-1]))
        placed, sizes = place_weights(tuple(layers), tuple(shapes[:-1]))
        return cls(tuple(layers), tuple(shapes), placed, sizes)

    @property
    def last_activation(self) -> str:
        """Name of the activation the output comes out of."""
        activation = getattr(self.layers[-1], "activation", None)
        return activation.name if isinstance(activation, Activation) else ""


@dataclass(frozen=True)
class Request:
    """What a plan is wanted for.

    Attributes:
        purpose: "train" (all phases), "manual" (all but the update, output shown before the loss), "evaluate", "predict",
            "update" (the update alone).
        batch: rows of a full batch.
        data: dtype of the inputs, "uint8", "float32" or "float64".
        dtype: of all arithmetic, "float32" or "float64".
        threads: parts at most.
        loss, metrics, optimizer: as far as the purpose needs them.
        weighted: rows carry sample weights.
    """

    purpose: str
    batch: int
    data: str = "float32"
    dtype: str = "float32"
    threads: int = 1
    loss: Loss | None = None
    metrics: tuple[Metric, ...] = ()
    optimizer: Optimizer | None = None
    weighted: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps over one arena, with their places, parts and barriers.

    Attributes:
        request: what it was made for.
        steps, slots: what runs, and how each step is cut.
        buffers: by name.
        offsets: of the arena's buffers, elements.
        arena_size: elements.
        input, output: buffers of the batch's inputs and the model's outputs.
        targets: what targets must look like; None without a loss.
        metric_slots: where each metric's sums start, and how many they are.
        sums: float64 sums that the run adds to.
        slot_size: elements of the optimizer's slots.
        places: offset of each weight in its region, elements.
    """

    request: Request
    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    buffers: dict[str, Buffer]
    offsets: dict[str, int]
    arena_size: int
    input: Buffer
    output: Buffer
    targets: Targets | None
    metric_slots: tuple[tuple[int, int], ...]
    sums: int
    slot_size: int
    places: dict[str, int]

    def span(self, *phases: str) -> tuple[int, int]:
        """The run of steps that belong to the phases: first, last + 1."""
        found = [i for i, step in enumerate(self.steps) if step.phase in phases]
        return (found[0], found[-1] + 1) if found else (0, 0)

    @property
    def parts(self) -> int:
        """The largest number of parts any step is cut into: threads beyond it would only wait."""
        return max((s.parts for s in self.slots), default=1)

    def explain(self) -> str:
        """A table of the steps: layer, kernel, extent, FLOPs and bytes a batch, share, parts, barrier."""
        from .explain import table

        return table(self)

    def estimate_us(self) -> float:
        """The cost model's time of one batch on one thread."""
        return sum(cost_us(step, self.request.batch) for step in self.steps)


def make_plan(network: Network, request: Request) -> Plan:
    """The plan of a network for a purpose. Pure: equal arguments give equal plans."""
    build = Builder(request.batch, request.threads, network.placed, riding=_riding(network, request))
    if request.purpose == "update" and request.optimizer is not None:
        add_updates(build, network.placed, request.optimizer)
        nothing = Buffer("input/x", "arena", 0)
        build.buffers["input/x"] = nothing
        return _finish(build, request, tuple(build.steps), nothing, None, (), 1, network)
    fused = _declare_forward(build, network, request)
    output = build.buffers["output"]
    targets: Targets | None = None
    slots: tuple[tuple[int, int], ...] = ()
    sums = 1
    if request.loss is not None:
        slots, sums = metric_slots(request.metrics, count(network.shapes[-1]), request.loss)
        targets = add_loss(build, network, request, output, fused, slots)
        if request.purpose in ("train", "manual"):
            _declare_backward(build, network, fused, targets)
    if request.purpose == "train" and request.optimizer is not None:
        add_updates(build, network.placed, request.optimizer)
    steps = tuple(gather_steps(build, request.data, _own_copy(network, request)) + build.steps)
    return _finish(build, request, steps, output, targets, slots, sums, network)


def _finish(build, request, steps, output, targets, slots, sums, network) -> Plan:
    """Places, parts and barriers."""
    lasting = frozenset(build.buffers) if request.purpose == "manual" else frozenset()
    buffers = dict(build.buffers)
    cut = schedule(steps, request.batch, request.threads)
    alive = lifetimes(steps, stages(cut, request.threads), lasting)
    offsets, size = place(buffers, alive, request.batch, request.threads)
    extra = slot_size(network.sizes["parameters"], request.optimizer) if request.optimizer else 0
    source = buffers["input/x"]
    places = {key: placed.offset for key, placed in network.placed.items()}
    return Plan(request, steps, cut, buffers, offsets, size, source, output, targets, slots, sums, extra, places)


def _own_copy(network: Network, request: Request) -> bool:
    elements = count(network.shapes[0]) * request.batch
    return request.threads > 1 and elements <= OWN_COPY_ELEMENTS and request.purpose != "manual"


def _riding(network: Network, request: Request) -> frozenset[str]:
    """Weights whose update rides on their gradient's step: plain SGD, and no penalty in their layer."""
    if request.batch > MOST_RIDING_ROWS:
        return frozenset()
    if request.purpose != "train" or request.optimizer is None or not request.optimizer.rides:
        return frozenset()
    penalized = {k.rsplit("/", 1)[0] for k, p in network.placed.items() if p.weight.regularizer is not None}
    riders = {str(layer.name) for layer in network.layers if layer.update_rides} - penalized
    return frozenset(k for k, p in network.placed.items() if p.trainable and k.rsplit("/", 1)[0] in riders)


def _declare_forward(build: Builder, network: Network, request: Request) -> bool:
    """Steps of the forward pass. Returns whether the loss takes the sums before the last activation."""
    training = request.purpose in ("train", "manual")
    fused = request.loss is not None and request.loss.kernel_for(network.last_activation)[1]
    shape = network.shapes[0]
    build.label = "input"
    x = build.input = build.rows("x", shape)
    for node, layer in enumerate(network.layers):
        last = node == len(network.layers) - 1
        build.enter(node, str(layer.name), fused_output=fused and last)
        x = layer.forward(build, x, training)
    build.buffers["output"] = replace(x, shape=network.shapes[-1])
    if request.purpose == "predict":
        build.enter(len(network.layers), "output")
        build.step("gather.output", (x, x.width), writes_own(x), ROWS_SHARED, (-1,), bytes=8.0 * x.width)
    if request.purpose == "manual":
        build.release()  # whoever drives the loop may never ask for a loss
        _show(build, network, x, fused)
    return fused


def _show(build: Builder, network: Network, x: Buffer, fused: bool) -> None:
    """A copy of the output for the user's eyes: the loss may write over the output itself."""
    build.enter(len(network.layers), "output")
    shown = build.rows("shown", network.shapes[-1])
    if fused and network.last_activation == "softmax":
        operands: tuple = (x, shown, x.width, network.shapes[-1][-1])
        build.step("loss.softmax", operands, writes_own(x, shown), ROWS_SHARED, (-1,), bytes=16.0 * x.width)
        return
    kernel = "activation.sigmoid" if fused else "activation.linear"
    operands = (x, 0, 0, shown, x.width, number(0.0), ROWS_SHARED)
    build.step(kernel, operands, writes_own(x, shown), ROWS_SHARED, (-1,), bytes=8.0 * x.width)


def _declare_backward(build: Builder, network: Network, fused: bool, targets: Targets) -> None:
    """Steps of the backward pass, last layer first, down to the first layer with trainable weights."""
    build.phase = "backward"
    build.release()
    wanted = _gradient_wanted(network)
    dy: Buffer | None = targets.gradient
    for node in reversed(range(len(network.layers))):
        layer = network.layers[node]
        if dy is None or not (wanted[node] or _trains(layer, network)):
            break
        last = node == len(network.layers) - 1
        build.enter(node, str(layer.name), fused_output=fused and last, input_gradient_wanted=wanted[node])
        dy = layer.backward(build, dy)
    add_penalties(build, network.placed)


def _trains(layer: Layer, network: Network) -> bool:
    return any(p.trainable for key, p in network.placed.items() if key.startswith(f"{layer.name}/"))


def _gradient_wanted(network: Network) -> list[bool]:
    """For each layer, whether a layer before it has trainable weights."""
    result, seen = [], False
    for layer in network.layers:
        result.append(seen)
        seen = seen or _trains(layer, network)
    return result
