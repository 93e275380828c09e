"""What a model is: its layers, their shapes, weights and files. Stage: model, beneath `model.py`, which says what is done
with it.

Must not know: kernels, steps, threads, training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import optimizers, seeding
from .checks import check_argument, check_choice, check_list, is_whole
from .errors import ShapeError, StateError, unknown_name
from .graph import Graph, follow, sample_shape
from .graph import trace as graph_of
from .layers.base import Layer, without_batch
from .layers.tensor import Tensor
from .plan.objective import Aim
from .registry import snake_case
from .train.history import History
from .train.parameters import Parameter, Parameters
from .train.session import Session
from .train.watch import InputRange
from .wiring import home_of, open_session

DTYPES = ("float32", "float64")


class Structure:
    """Layers and weights; the base of `Model`."""

    def __init__(
        self, inputs=None, outputs=None, *, name: str | None = None, dtype: str | None = None, seed: int | None = None
    ):
        if inputs is None and outputs is None and hasattr(self, "call"):
            self._start(name or snake_case(type(self).__name__), dtype or "float32", seed)
            return
        name = name or "model"
        advice = "make them by pn.Input and layers, or give a class of your own a method call(self, inputs)"
        check_argument(inputs is not None and outputs is not None, name, "inputs and outputs", (inputs, outputs), advice)
        graph = graph_of(inputs, outputs, name)
        home = home_of(graph, name)
        if home is not None and dtype not in (None, home.dtype):
            raise StateError(f"{name}: expected dtype {home.dtype!r}, as the layers' weights have it, received {dtype!r}")
        self._start(name, dtype or (home.dtype if home else "float32"), home.seed if home and seed is None else seed)
        self._connect(graph)

    def _start(self, name: str, dtype: str, seed: int | None) -> None:
        """Everything but the layers."""
        self.name, self.dtype = name, check_choice(dtype, "dtype", DTYPES)
        self.seed = seeding.next_seed() if seed is None else seeding.check_seed(seed)
        self.optimizer: optimizers.Optimizer | None = None
        self.aims: tuple[Aim, ...] = (Aim(None),)
        self.stop_training, self.training = False, True
        self.history: History | None = None
        self._layers: list[Layer] = []
        self._session: Session | None = None
        self._graph: Graph | None = None
        self.input_ranges = [InputRange()]

    def _connect(self, graph: Graph) -> None:
        """Shapes and places of all weights; no array is made."""
        self._graph, self._layers = graph, list(graph.layers)
        self._session = open_session(graph, self.seed, self.dtype, self.name)
        if len(self.input_ranges) != len(graph.inputs):
            self.input_ranges = [InputRange() for _ in graph.inputs]

    def build(self, input_shape) -> None:
        """State the input's shape of a model of one's own class.

        Args:
            input_shape: of one sample, without the batch, a leading None left out; for several inputs a list of shapes.
        Raises:
            StateError: the shape is known already, or `call` does something that is no layer.
        """
        if self._graph is not None or not hasattr(self, "call"):
            raise StateError(f"{self.name}.build: the input's shape is known already, {self.input_shape}; make a new model")
        several = isinstance(input_shape, list) and len(input_shape) > 0 and not is_whole(input_shape[0])
        several = several and input_shape[0] is not None
        shapes = [without_batch(shape, f"{self.name}.build") for shape in (input_shape if several else [input_shape])]
        graph = follow(self.call, shapes, self.name)
        if len(graph.outputs) > 1 and self.optimizer is not None:
            raise StateError(f"{self.name}: expected build(shape) before compile, as there are {len(graph.outputs)} outputs")
        self._connect(graph)

    def _see(self, x: Any) -> None:
        """The first data state the input's shape where nobody has."""
        if self._session is not None or not (self._layers or hasattr(self, "call")):
            return
        several = hasattr(self, "call") and isinstance(x, list | tuple)
        shapes = [getattr(one, "shape", None) for one in (x if several else [x])]
        if not shapes or not all(isinstance(shape, tuple) for shape in shapes):
            return
        rest = [list(shape[1:]) for shape in shapes if shape is not None]
        advice = (
            f"x is a list of {len(shapes)} arrays, one for each input; if they are samples of one input, pass np.stack(x)"
        )
        if all(rest):
            try:
                self.build(rest[0] if len(rest) == 1 else rest)
            except (ShapeError, StateError) as error:
                if len(rest) == 1:
                    raise
                raise type(error)(f"{error} ({advice})") from error
        elif several:
            raise ShapeError(f"{self.name}: expected arrays (rows, ...), received one of shape {shapes[0]}; {advice}")

    # -- structure ------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, without Input, in the order of their weights."""
        return [layer for layer in self._layers if not layer.is_input]

    @property
    def graph(self) -> Graph:
        """The calls of the layers. Raises StateError where the input's shape is not known."""
        if self._graph is None:
            raise StateError(
                f"{self.name}: the input's shape is not known; give the first layer input_shape=..., "
                "put Input(shape) before it, or call build(shape)"
            )
        return self._graph

    @property
    def inputs(self) -> list[Tensor]:
        """The symbolic inputs."""
        return list(self.graph.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """The symbolic outputs."""
        return list(self.graph.outputs)

    @property
    def input(self) -> Tensor | list[Tensor]:
        """The symbolic input, or a list of several."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def output(self) -> Tensor | list[Tensor]:
        """The symbolic output, or a list of several."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    @property
    def input_shape(self) -> Any:
        """Of one sample; a list for several inputs."""
        return sample_shape([tensor.shape for tensor in self.graph.inputs])

    @property
    def output_shape(self) -> Any:
        """Of one sample; a list for several outputs."""
        return sample_shape(self.session.network.output_shapes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of the outputs, as dicts of losses, metrics and targets know them: their layers' names."""
        return self.session.network.names[1]

    @property
    def session(self) -> Session:
        """Weights and plans.

        Raises:
            StateError: the input's shape is not known.
        """
        if self._session is None:
            raise StateError(
                f"{self.name}: the input's shape is not known; give the first layer input_shape=..., "
                "put Input(shape) before it, or call build(shape)"
            )
        return self._session

    @property
    def input_range(self) -> InputRange:
        """What `fit` saw of the first input."""
        return self.input_ranges[0]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its number."""
        if index is not None:
            count = len(self.layers)
            good = is_whole(index, -count) and int(index) < count
            check_argument(
                good, f"{self.name}.get_layer: index", f"a number of {count} layers, from 0", index, "see summary()"
            )
            return self.layers[index]
        for layer in self._layers:
            if isinstance(name, str) and layer.name == name:
                return layer
        raise unknown_name("layer", name, [str(layer.name) for layer in self._layers])

    def summary(self, print_fn=print) -> None:
        """Print layers, output shapes and parameter counts. Allocates no weights."""
        from .summary import summary

        check_argument(callable(print_fn), f"{self.name}.summary: print_fn", "a function", print_fn, "leave it out to print")
        print_fn(summary(self))

    def count_params(self) -> int:
        """Numbers in all weights, trainable or not."""
        return sum(p.count for p in self.session.network.placed.values())

    # -- weights --------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Parameter]:
        """All arrays, in the order of the layers."""
        return [Parameter(self.session, p) for p in self.session.network.placed.values()]

    def parameters(self) -> Parameters:
        """The trainable weights, for the optimizer of a manual loop."""
        self.session.refresh()
        return Parameters(self.session)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all arrays, in the order of the layers."""
        return [p.numpy() for p in self.weights]

    def set_weights(self, arrays: Sequence[np.ndarray]) -> None:
        """Replace all arrays.

        Raises:
            ShapeError: another number of arrays, or one of another shape. Nothing is changed then.
        """
        mine, arrays = self.weights, check_list(arrays, f"{self.name}.set_weights", "arrays")
        if len(arrays) != len(mine):
            raise ShapeError(f"{self.name}.set_weights: expected {len(mine)} arrays, received {len(arrays)}")
        checked = [p.check(a) for p, a in zip(mine, arrays, strict=True)]
        for p, array in zip(mine, checked, strict=True):
            p.assign(array)

    def save_weights(self, path, format: str = "auto") -> None:
        """Write the weights alone, for parnet, Keras or PyTorch by the path's ending; see `parnet.io.weights_writer`."""
        from .io.weights_writer import save_weights

        save_weights(self, path, format)

    def to_json(self, indent: int | None = None) -> str:
        """The layers and how they are connected as a JSON text, without weights; `pn.model_from_json` reads it.

        Args:
            indent: of each level, for people; None writes one line.
        Raises:
            StateError: the input's shape is not known. HyperparameterError: a layer that cannot be made again from its
            `get_config()`.
        """
        from .io.model_json import to_json

        good = indent is None or (is_whole(indent, 0) and int(indent) <= 100)
        check_argument(good, f"{self.name}.to_json: indent", "None or a whole number from 0 to 100", indent, "leave it out")
        return to_json(self, indent)  # type: ignore[arg-type]

    def export(self, path, format: str = "onnx") -> None:
        """Write the model for inference elsewhere, as an ONNX file; see `parnet.io.onnx_writer.save_onnx`."""
        from .io.onnx_writer import save_onnx

        check_choice(format, "export: format", ("onnx",))
        save_onnx(self, path)

    def load_weights(self, path, format: str = "auto", strict: bool = True):
        """Read the weights from a file of parnet, Keras or PyTorch (safetensors); see `parnet.io.weights`."""
        from .io.weights import load_weights

        return load_weights(self, path, format, strict)
