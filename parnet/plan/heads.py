"""Which normalisations at a model's inputs get their gradients by way of the weights behind them. Stage: plan. Pure.

Nobody needs the gradient of what such a normalisation reads, and those of its own gamma and beta follow from the weight
gradient of the product behind it: the product's input gradient, a third of its work, is not made. See
`parnet.kernels.input_norm`. Must not know: steps, kernels.
"""

from __future__ import annotations

from ..layers.base import is_ours
from .network import Network

#: numbers of a matrix of weights at most: one more pass over larger ones, from memory, costs what the product does
MOST_WEIGHTS = 200_000


def find_heads(network: Network, wanted: list[bool]) -> dict[int, int]:
    """For each product that stands behind such a normalisation, by its node, the node of that.

    Args:
        wanted: for each node whether the gradient of its output is wanted.
    """
    result = {}
    for index, node in enumerate(network.nodes):
        before = node.inputs[0]
        if (
            len(node.inputs) != 1
            or before < 0
            or not _can_be(network, index, "product")
            or not _can_be(network, before, "norm")
        ):
            continue
        first = network.nodes[before]
        weights = sum(p.count for key, p in network.placed.items() if key.startswith(f"{node.layer.name}/"))
        open_end = any(producer >= 0 and wanted[producer] for producer in first.inputs)
        if len(first.shape) == 1 and network.readers(before) == 1 and not open_end and weights <= MOST_WEIGHTS:
            result[index] = before
    return result


def _can_be(network: Network, index: int, part: str) -> bool:
    """Whether a node can be that part of a head: its layer is trained, is called once, and does what its class promises."""
    layer = network.nodes[index].layer
    calls = sum(node.layer is layer for node in network.nodes)
    return layer.head_part == part and calls == 1 and network.trains(layer) and is_ours(layer, "forward", "backward")
