"""Which nodes can be done on the way to the output of the node before them, in inference. Stage: plan. Pure.

A product whose sums are finished in registers can be normalised, added to another tensor and cut off at zero before it is
stored: three passes over the output less. A tail is found where nobody else reads what lies between.
Must not know: steps, kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..layers.base import Tail, is_ours
from .network import Network

#: the order in which the parts of a tail may follow each other
ORDER = ("norm", "add", "relu")


@dataclass
class Found:
    """The tail of one node.

    Attributes:
        last: the node whose output the whole makes.
        other: who makes what is added; None for nobody.
        tail: but for `other`, which has no buffer yet.
        inside: the nodes that need not be declared.
    """

    last: int
    other: int | None = None
    tail: Tail = field(default_factory=Tail)
    inside: list[int] = field(default_factory=list)


def find_tails(network: Network) -> dict[int, Found]:
    """The tails of all nodes that have one."""
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(network.nodes):
        for producer in node.inputs:
            readers.setdefault(producer, []).append(index)
    result: dict[int, Found] = {}
    made_at: dict[int, int] = {}
    for index in range(len(network.nodes)):
        if any(index in found.inside for found in result.values()):
            continue
        found = _tail_of(network, index, readers, made_at)
        made_at[found.last] = index
        if found.inside:
            result[index] = found
    return result


def _tail_of(network: Network, index: int, readers: dict[int, list[int]], made_at: dict[int, int]) -> Found:
    layer, found, stage = network.nodes[index].layer, Found(index), 0
    ours = is_ours(layer, "forward", "forward_with", "takes")
    while ours and found.last not in network.outputs and len(readers.get(found.last, ())) == 1:
        after = readers[found.last][0]
        node = network.nodes[after]
        if node.layer.tail_part not in ORDER[stage:] or not is_ours(node.layer, "forward"):
            break
        stage = ORDER.index(node.layer.tail_part) + 1
        tail, other = found.tail, found.other
        if node.layer.tail_part == "norm":
            tail = Tail(str(node.layer.name), node.layer.epsilon)
        elif node.layer.tail_part == "relu":
            tail = Tail(tail.norm, tail.epsilon, relu=True)
        else:
            others = [producer for producer in node.inputs if producer != found.last]
            if len(node.inputs) != 2 or len(others) != 1 or (others[0] >= 0 and others[0] not in made_at):
                break
            other = others[0]
        if not layer.takes(tail):
            break
        found = Found(after, other, tail, [*found.inside, after])
    return found
