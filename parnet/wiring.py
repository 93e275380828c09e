"""A graph's layers given their weights: places, sharing between models, what `layer.kernel` reads. Stage: model.

Must not know: kernels, training.
"""

from __future__ import annotations

from .errors import StateError
from .graph import Graph
from .plan.network import Network
from .train.parameters import Parameter
from .train.session import Session
from .train.weights import Weights


def home_of(graph: Graph, where: str) -> Weights | None:
    """The weights that some of the layers share with another model, if any. Raises StateError for those of two others."""
    homes: dict[int, tuple[Weights, str]] = {}
    for layer in graph.called():
        if layer._home is not None:
            homes.setdefault(id(layer._home), (layer._home, layer.label()))
    if len(homes) > 1:
        names = " and ".join(label for _, label in list(homes.values())[:2])
        raise StateError(
            f"{where}: expected layers whose weights belong to one model, received {names} of different models; make one of "
            "them anew and copy the values, new.set_weights(old.get_weights()), or make the whole graph a Model first and "
            "the smaller models of its tensors"
        )
    return next(iter(homes.values()))[0] if homes else None


def open_session(graph: Graph, seed: int, dtype: str, where: str) -> Session:
    """The session of a graph; layers that have no weights yet get theirs, behind those there are. No array is made."""
    home = home_of(graph, where)
    layers = graph.called()
    known = {f"{layer.name}/{name}": p for layer in layers for name, p in layer._places.items()}
    names = (tuple(t.name for t in graph.inputs), _output_names(graph))
    shapes = tuple(t.shape for t in graph.inputs)
    outputs = tuple(graph.producers()[id(t)] for t in graph.outputs)
    sizes = home.sizes if home is not None else None
    network = Network.of_nodes(graph.nodes(), shapes, outputs, layers, known, sizes, names)
    weights = home if home is not None else Weights(seed, dtype)
    weights.take_in((p for key, p in network.placed.items() if key not in known), network.sizes)
    weights.models += 1
    session = Session(network, seed, dtype, weights)
    for layer in graph.layers:
        if layer._home is None:
            layer.settle(weights, _own(network, str(layer.name)))
            layer.bind({name: Parameter(session, p) for name, p in layer._places.items()})
    return session


def _own(network: Network, name: str) -> dict:
    """A layer's weights by their names."""
    return {p.weight.name: p for key, p in network.placed.items() if key.rsplit("/", 1)[0] == name}


def _output_names(graph: Graph) -> tuple[str, ...]:
    """The outputs' layers; where one makes several, a number behind the name."""
    names: list[str] = []
    for tensor in graph.outputs:
        name, number = tensor.name, 1
        while name in names:
            name, number = f"{tensor.name}_{number}", number + 1
        names.append(name)
    return tuple(names)
