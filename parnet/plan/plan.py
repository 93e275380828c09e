"""Puts a plan together: everything an executor needs to know, as plain data. Stage: plan.

    plan = make_plan(network, batch=32, ...)      pure: no array is allocated, no kernel compiled
    print(plan.explain())

Must not know: executors, kernels' code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..kernels.step import WHOLE_ROWS, Buffer, Step
from ..layers.base import count
from ..losses import Loss
from ..metrics import Metric
from ..optimizers import Optimizer
from .ahead import ask_ahead
from .builder import Builder
from .gather import gather_steps
from .layout import lifetimes, place, stages
from .network import Network
from .objective import Aim, MetricSlot, Targets, add_losses, metric_slots
from .passes import declare_backward, declare_forward
from .schedule import Slot, cost_us, meeting_at_end, meetings, schedule
from .update import add_updates, slot_size

__all__ = ["Network", "Plan", "Request", "make_plan"]

#: a batch is gathered by each part for itself up to this many elements; larger ones would crowd the parts' caches
OWN_COPY_ELEMENTS = 64 * 1024


@dataclass(frozen=True)
class Request:
    """What a plan is wanted for.

    Attributes:
        purpose: "train" (all phases), "manual" (all but the update, output shown before the loss), "evaluate", "predict",
            "update" (the update alone).
        batch: rows of a full batch.
        data: dtype of the inputs, "uint8", "float32" or "float64", or a tuple with that of each.
        dtype: of all arithmetic, "float32" or "float64".
        threads: parts at most.
        loss, metrics, optimizer: as far as the purpose needs them; loss and metrics are those of a model's one output.
        weighted: rows carry sample weights.
        shards: virtual shards that a batch is cut into; workers: processes that share them, each of `threads` parts.
        apart: the plan runs in other processes, so that what a manual loop is shown goes where predictions go.
        aims: of a model of several outputs, one each, in place of loss and metrics.
        shortcuts: the plan may go round work as only the CPU's kernels can: Winograd's transforms in inference, gradients of
            a normalisation at the inputs (`heads.py`).
    """

    purpose: str
    batch: int
    data: str | tuple[str, ...] = "float32"
    dtype: str = "float32"
    threads: int = 1
    loss: Loss | None = None
    metrics: tuple[Metric, ...] = ()
    optimizer: Optimizer | None = None
    weighted: bool = False
    aims: tuple[Aim, ...] = ()
    shards: int = 1
    workers: int = 1
    apart: bool = False
    shortcuts: bool = True

    @property
    def goals(self) -> tuple[Aim, ...]:
        """What is measured of each output; empty where nothing is."""
        return self.aims or (() if self.loss is None else (Aim(self.loss, self.metrics),))


@dataclass(frozen=True)
class Plan:
    """Steps over one arena, with their places, parts and barriers.

    Attributes:
        request: what it was made for.
        steps, slots: what runs, and how each step is cut.
        buffers: by name.
        offsets: of the arena's buffers, elements.
        arena_size: elements.
        inputs, outputs: buffers of the batch's inputs and the model's outputs.
        shown: buffers of copies of the outputs, in a manual plan.
        targets: what the targets of each output must look like, None for one without a loss; empty without any.
        metric_slots: where each metric's sums start, and their shape, output by output.
        sums: float64 sums that the run adds to.
        slot_size: elements of the optimizer's slots.
        places: offset of each weight, or buffer of the region "exchange", in its region, elements.
        after: what is done once a batch when all its shards are done, on all parts of all workers; then `steps` are those of
            one shard, and `request.batch` is the rows of a full one. None without shards.
        exchange: elements of the region "exchange".
        meetings: steps that all shards must have reached before one goes on.
        prepared: how many of the first steps make things of the weights alone; they may be left out while these stay.
    """

    request: Request
    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    buffers: dict[str, Buffer]
    offsets: dict[str, int]
    arena_size: int
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    shown: tuple[Buffer, ...]
    targets: tuple[Targets | None, ...]
    metric_slots: tuple[MetricSlot, ...]
    sums: int
    slot_size: int
    places: dict[str, int]
    after: Plan | None = None
    exchange: int = 0
    meetings: tuple[int, ...] = ()
    prepared: int = 0

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

        return table(self) if self.after is None else f"{table(self)}\n\nonce a batch:\n{table(self.after)}"

    def estimate_us(self) -> float:
        """The cost model's time of one batch on one thread."""
        own = sum(cost_us(step, self.request.batch) for step in self.steps)
        return own if self.after is None else own * self.request.shards + self.after.estimate_us()


def make_plan(network: Network, request: Request) -> Plan:
    """The plan of a network for a purpose. Pure: equal arguments give equal plans."""
    total, optimizer = network.sizes["parameters"], request.optimizer
    if request.purpose == "update" and optimizer is not None:
        once = _once(request)
        build = Builder(once.batch, once.threads, network.placed)
        add_updates(build, network.placed, total, optimizer)
        plan = _finish(build, once, network, tuple(build.steps))
        return plan if request.shards == 1 else replace(plan, request=request, steps=(), slots=(), after=plan)
    whole, after = request, None
    if request.shards > 1:
        request = replace(whole, batch=-(-whole.batch // whole.shards))
        after = Builder(whole.batch, whole.threads * whole.workers, network.placed, shards=whole.shards)
    riding = _riding(network, request)
    build = Builder(request.batch, request.threads, network.placed, riding, whole.shards, after, shortcuts=request.shortcuts)
    made = declare_forward(build, network, request)
    targets: tuple[Targets | None, ...] = ()
    slots: tuple[MetricSlot, ...] = ()
    sums = 1
    if request.goals:
        slots, sums = metric_slots(request.goals, tuple(count(shape) for shape in network.output_shapes))
        targets = add_losses(build, network, request, made, slots)
        if request.purpose in ("train", "manual"):
            declare_backward(build, network, made.fused, targets)
    if request.purpose == "train" and optimizer is not None:
        without = _unreached(build, network)
        add_updates(after or build, network.placed, total, optimizer, without)
    kinds = (request.data,) * len(network.input_shapes) if isinstance(request.data, str) else request.data
    steps = tuple(gather_steps(build, kinds, _own_copy(network, request)) + build.steps)
    if request.purpose == "train" and whole.shards == 1:
        steps = ask_ahead(steps, request.batch, request.threads, 4 if request.dtype == "float32" else 8)
    plan = _finish(build, request, network, steps, made.outputs, made.shown, targets, slots, sums)
    if after is None:
        return plan
    after.exchanged = build.exchanged
    return replace(plan, after=_finish(after, _once(whole), network, tuple(after.steps)))


def _once(request: Request) -> Request:
    """The request of what is done once a batch: on all parts of all workers."""
    return replace(request, threads=request.threads * request.workers, workers=1, shards=1)


def _finish(build, request, network, steps, outputs=(), shown=(), targets=(), slots=(), sums=1) -> Plan:
    """Places, parts and barriers."""
    first = tuple(build.prepared)
    made = frozenset(access.buffer.name for step in first for access in step.accesses if access.writes)
    lasting = frozenset(build.buffers) if request.purpose == "manual" else made
    buffers = dict(build.buffers)
    cut = schedule(steps, request.batch, request.threads, sharded=build.shards > 1)
    if first:
        cut, steps = meeting_at_end(schedule(first, 1, request.threads)) + meeting_at_end(cut), first + steps
    alive = lifetimes(steps, stages(cut, request.threads), lasting)
    offsets, size = place(buffers, alive, request.batch, request.threads)
    extra = slot_size(network.sizes["parameters"], request.optimizer) if request.optimizer else 0
    places = {key: placed.offset for key, placed in network.placed.items()} | build.exchanged
    sources = tuple(source.buffer for source in build.inputs)
    return Plan(
        request,
        steps,
        cut,
        buffers,
        offsets,
        size,
        sources,
        outputs,
        shown,
        targets,
        slots,
        sums,
        extra,
        places,
        exchange=build.exchanged.get("", 0),
        meetings=meetings(steps),
        prepared=len(first),
    )


def _unreached(build: Builder, network: Network) -> frozenset[str]:
    """Trainable weights that no loss depends on: nothing has made their gradient."""
    return frozenset(k for k, p in network.placed.items() if p.trainable and k not in build.delivered | build.riding)


def _own_copy(network: Network, request: Request) -> bool:
    elements = sum(count(shape) for shape in network.input_shapes) * request.batch
    return request.threads > 1 and elements <= OWN_COPY_ELEMENTS and request.purpose != "manual"


def _riding(network: Network, request: Request) -> frozenset[str]:
    """Weights whose update rides on their gradient's step: plain SGD, one call of their layer, no penalty or constraint."""
    if request.batch > WHOLE_ROWS or request.shards > 1:
        return frozenset()
    if request.purpose != "train" or request.optimizer is None or not request.optimizer.rides:
        return frozenset()
    weights = {k: p.weight for k, p in network.placed.items()}
    bound = {k.rsplit("/", 1)[0] for k, w in weights.items() if w.regularizer is not None or w.constraint is not None}
    riders = {str(node.layer.name) for node in network.nodes if node.layer.update_rides} - bound
    shared = network.shared()
    return frozenset(
        k for k, p in network.placed.items() if p.trainable and k not in shared and k.rsplit("/", 1)[0] in riders
    )
