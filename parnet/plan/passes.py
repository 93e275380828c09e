"""The forward and the backward pass: what the layers declare, put together in order. Stage: plan.

Going back, a tensor that several nodes read gets the sum of what they give, the later node's share first; a buffer that
several tensors' gradients lie in is copied before somebody writes over it. Must not know: executors, kernels' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StateError
from ..kernels.step import ROWS_SHARED, Buffer, number, reads_own, writes_own
from ..layers.activate import cut_of, usual_share
from ..layers.merge import MOST_INPUTS
from .builder import Builder, Source
from .heads import find_heads
from .network import Network, Node
from .objective import Made, Targets, add_penalties
from .tails import Found, find_tails
from .update import add_fold

if TYPE_CHECKING:
    from .plan import Request


def declare_forward(build: Builder, network: Network, request: Request) -> Made:
    """Steps of the forward pass."""
    training = request.purpose in ("train", "manual")
    fused = _fused(network, request)
    made: list[Buffer] = []
    build.enter(0, "input")
    for place, shape in enumerate(network.input_shapes):
        x = build.rows(f"x{place}" if place else "x", shape)
        build.inputs.append(Source(x))
        build.readers[x.name] = network.readers(-1 - place)
    tails = {} if training else find_tails(network)
    done: dict[int, Buffer] = {}
    inside = {index for found in tails.values() for index in found.inside}
    for index, node in enumerate(network.nodes):
        if index in inside:
            made.append(done.get(index, Buffer("", "arena", 0)))
            continue
        given = tuple(_made(build, made, producer) for producer in node.inputs)
        shapes = tuple(x.shape for x in given)
        build.enter(index, str(node.layer.name), _is_fused(network, fused, index), prefix=node.prefix, given=shapes)
        found = tails.get(index)
        if found is None:
            y = node.layer.forward(build, given if node.layer.merges else given[0], training)  # type: ignore[arg-type]
        else:
            y = done[found.last] = _forward_with(build, node, given[0], found, {**dict(enumerate(made)), **done})
        view = sum(x.name == y.name for x in given)
        build.readers[y.name] += network.readers(found.last if found else index) - view
        made.append(y)
    outputs = tuple(replace(_made(build, made, producer), shape=network.shape_of(producer)) for producer in network.outputs)
    shown: tuple[Buffer, ...] = ()
    build.enter(len(network.nodes), "output")
    if request.purpose == "predict":
        for place, x in enumerate(outputs):
            operands = (x, x.width, place)
            build.step("gather.output", operands, reads_own(x), ROWS_SHARED, (-1,), bytes=8.0 * x.width)
    if request.purpose == "manual":
        build.release()  # whoever drives the loop may never ask for a loss
        build.enter(len(network.nodes), "output")
        shown = tuple(_show(build, network, place, x, fused[place]) for place, x in enumerate(outputs))
        for place, x in enumerate(shown if request.apart else ()):
            build.step("gather.output", (x, x.width, place), reads_own(x), ROWS_SHARED, (-1,), bytes=8.0 * x.width)
    return Made(outputs, shown, fused)


def _forward_with(build: Builder, node: Node, x: Buffer, found: Found, made: dict[int, Buffer]) -> Buffer:
    """The steps of a node and its tail."""
    other = None
    if found.other is not None:
        other = made[found.other] if found.other >= 0 else build.inputs[-1 - found.other].buffer
    return node.layer.forward_with(build, x, replace(found.tail, other=other))


def _made(build: Builder, made: list[Buffer], producer: int) -> Buffer:
    return made[producer] if producer >= 0 else build.inputs[-1 - producer].buffer


def _fused(network: Network, request: Request) -> tuple[bool, ...]:
    """For each output whether its loss takes the sums before the last activation: nobody else may read that output."""
    goals = request.goals or (None,) * len(network.outputs)
    result = []
    for place, (goal, producer) in enumerate(zip(goals, network.outputs, strict=True)):
        fusible = goal is not None and goal.loss is not None and goal.loss.kernel_for(network.activation(place))[1]
        result.append(fusible and network.readers(producer) == 1)
    return tuple(result)


def _is_fused(network: Network, fused: tuple[bool, ...], index: int) -> bool:
    return index in network.outputs and fused[network.outputs.index(index)]


def _show(build: Builder, network: Network, place: int, x: Buffer, fused: bool) -> Buffer:
    """A copy of an output for the user's eyes: the loss may write over the output itself."""
    shown = build.rows(f"shown{place}" if place else "shown", x.shape)
    accesses = reads_own(x) + writes_own(shown)
    if fused and network.activation(place) == "softmax":
        operands: tuple = (x, shown, x.width, x.shape[-1])
        build.step("loss.softmax", operands, accesses, ROWS_SHARED, (-1,), bytes=16.0 * x.width)
        return shown
    kernel = "activation.sigmoid" if fused else "activation.linear"
    operands = (x, 0, 0, shown, x.width, number(0.0), ROWS_SHARED)
    build.step(kernel, operands, accesses, ROWS_SHARED, (-1,), bytes=8.0 * x.width)
    return shown


def declare_backward(build: Builder, network: Network, fused: tuple[bool, ...], targets: tuple[Targets | None, ...]) -> None:
    """Steps of the backward pass, last node first, down to the first nodes with trainable weights."""
    build.phase = "backward"
    build.release()
    trains = [network.trains(node.layer) for node in network.nodes]
    wanted = _wanted(network, trains)
    heads = find_heads(network, wanted) if build.shortcuts and build.shards == 1 else {}
    gradients = _Gradients(build)
    for producer, target in zip(network.outputs, targets, strict=True):
        if target is not None:
            gradients.give(producer, target.gradient)
    for index in reversed(range(len(network.nodes))):
        node = network.nodes[index]
        needed = tuple(producer >= 0 and wanted[producer] for producer in node.inputs)
        if not gradients.pending.get(index) or not (any(needed) or trains[index]):
            gradients.pending.pop(index, None)
            continue
        build.enter(index, str(node.layer.name), _is_fused(network, fused, index), needed, node.prefix, network.given(node))
        dy = gradients.take(index)
        if index in heads:
            _head_backward(build, network, index, heads[index], gradients, dy)
            continue
        for producer, dx in zip(node.inputs, _node_backward(build, node, gradients, dy), strict=True):
            if dx is not None and producer >= 0 and wanted[producer]:
                gradients.give(producer, dx)
    if build.after is not None:
        add_fold(build.after, network.placed, network.sizes["parameters"], build.delivered)
    add_penalties(build.after or build, network.placed, build.delivered)


def _wanted(network: Network, trains: list[bool]) -> list[bool]:
    """For each node whether the gradient of its output is wanted: it has trainable weights, or a node before it has."""
    result: list[bool] = []
    for node, own in zip(network.nodes, trains, strict=True):
        result.append(own or any(producer >= 0 and result[producer] for producer in node.inputs))
    return result


def _head_backward(build: Builder, network: Network, index: int, first: int, gradients: _Gradients, dy: Buffer) -> None:
    """Both nodes of a head: the normalisation `first` and the product `index`."""
    node, norm, fused = network.nodes[index], network.nodes[first], build.fused_output

    def enter_norm() -> None:
        build.enter(first, str(norm.layer.name), prefix=norm.prefix, given=network.given(norm))

    def enter_product() -> None:
        build.enter(index, str(node.layer.name), fused, (), node.prefix, network.given(node))

    def declare(dy: Buffer) -> None:
        enter_norm()
        made = norm.layer.standardised(build)
        enter_product()
        sums = node.layer.backward_behind(build, dy, *made)
        enter_norm()
        norm.layer.backward_by_sums(build, sums)
        enter_product()  # whose a copy of dy would be

    _declared(build, (norm, node), gradients, dy, declare)


def _node_backward(build: Builder, node: Node, gradients: _Gradients, dy: Buffer) -> tuple[Buffer | None, ...]:
    """What the layer declares."""
    result = _declared(build, (node,), gradients, dy, lambda dy: node.layer.backward(build, dy))
    return result if isinstance(result, tuple) else (result,)


def _declared(build: Builder, nodes: tuple[Node, ...], gradients: _Gradients, dy: Buffer, declare: Callable):
    """What the nodes declare; once more on a copy of dy where they would write over what somebody else holds."""
    mark = build.mark()
    result = declare(dy)
    if gradients.held(dy) and any(a.writes and a.buffer.name == dy.name for s in build.steps[mark[0] :] for a in s.accesses):
        build.rewind(mark)
        dy = _copy(build, dy)
        result = declare(dy)
    written = {a.buffer.name for s in build.steps[mark[0] :] for a in s.accesses if a.writes}
    names = {str(node.layer.name) for node in nodes}
    made = {key for key in build.placed if key.rsplit("/", 1)[0] in names and f"d {key}" in written}
    if forgotten := sorted(made & build.delivered - build.asked):
        raise StateError(
            f"{nodes[0].layer.label()}: called several times in one model, but its backward would write over the gradient "
            f"of {forgotten[0]}; hand build.gradient_mode(name) to the kernel that makes it, see parnet.layers.base"
        )
    build.delivered |= made
    return result


def _copy(build: Builder, x: Buffer) -> Buffer:
    y = build.rows("#dy", x.shape)
    share = usual_share(x.shape)
    operands = (x, y, x.width, number(1.0), number(0.0), share)
    accesses = reads_own(x) + writes_own(y)
    build.step("elementwise.scale", operands, accesses, *cut_of(share, x.shape), bytes=8.0 * x.width)
    return y


class _Gradients:
    """The gradients on their way back, and who holds which buffer.

    Attributes:
        pending: for each node what its readers have given so far.
    """

    def __init__(self, build: Builder):
        self.build = build
        self.pending: dict[int, list[Buffer]] = {}

    def give(self, producer: int, dx: Buffer) -> None:
        """One reader's share of the gradient of what a producer made."""
        self.pending.setdefault(producer, []).append(dx)

    def held(self, buffer: Buffer) -> bool:
        """Whether a gradient that somebody still waits for lies in the buffer."""
        return any(dx.name == buffer.name for shares in self.pending.values() for dx in shares)

    def take(self, producer: int) -> Buffer:
        """The whole gradient: over one of the shares where nobody else holds it, in the order they came."""
        build, shares = self.build, self.pending.pop(producer)
        names = [dx.name for dx in shares]
        own = next((dx for dx in shares if names.count(dx.name) == 1 and not self.held(dx)), None)
        if len(shares) == 1:
            return shares[0]
        if own is None:
            own = build.rows("#dy_sum", shares[0].shape)
            self._fold("merge.add", own, shares[:2])
            shares = shares[2:]
        else:
            shares = [dx for dx in shares if dx is not own]
        for first in range(0, len(shares), MOST_INPUTS):
            self._fold("merge.accumulate", own, shares[first : first + MOST_INPUTS])
        return own

    def _fold(self, kernel: str, y: Buffer, x: list[Buffer]) -> None:
        share = usual_share(y.shape)
        operands = (y, y.width, share, len(x), *x)
        accesses = reads_own(*dict.fromkeys(x)) + writes_own(y)
        cost = 4.0 * y.width * (2 + len(x))
        self.build.step(kernel, operands, accesses, *cut_of(share, y.shape), flops=float(y.width * len(x)), bytes=cost)
