"""The contract of a layer. Stage: layers. Must not know: executors, threads, models.

A layer DECLARES: its weights, its output shape, and which kernels its forward and backward pass call, for a given
input. It allocates nothing and runs nothing. To add one, write one file like `dense.py` with a class that has

    weights(input_shape)            what it owns: a tuple of `Weight`
    output_shape(input_shape)       shapes are those of one sample: (28, 28)
    forward(build, x, training)     steps from the buffer x to the buffer it returns
    backward(build, dy)             steps from the gradient of its output to that of its input (None if not wanted)
    examples                        a few (layer, input shape) pairs: the contract tests find and use them

A layer with `merges = True` takes several inputs: weights, output_shape and examples have a tuple of shapes, forward a
tuple of buffers, and backward returns a tuple with one gradient for each (None where `build.gradients_wanted` has False).

Others may read the same tensors. forward leaves x as it is, unless `build.sole_reader(x)` says that it may write over it; it
may return x, or x under another shape. backward may write over dy and return it, even for several inputs: where somebody
else holds dy, the planner hands over a copy and adds up what comes back. A layer may be called several times in one model
(shared weights): backward passes `build.gradient_mode(name)` to the kernel that makes a weight's gradient.

Importing the file into `parnet.layers` enters the class in the registry, and with it in files, exports and tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .. import constraints, initializers, regularizers
from ..checks import check_flag, check_list, is_whole
from ..errors import HyperparameterError, ShapeError, StateError
from ..kernels.step import Access, Buffer
from ..registry import Configurable, Registry, snake_case
from . import tensor

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """One array a layer owns.

    Attributes:
        name: "kernel", "bias", ...; `layer.<name>` reads it.
        shape: of the array.
        initializer: makes its first value.
        regularizer: its penalty, or None.
        trainable: False for moving averages, which the optimizer never touches.
        panel: columns of the panels it lies in; 0 for `parnet.kernels.step.PANEL` and a narrow last one transposed.
        constraint: what it must satisfy after each update, or None.
    """

    name: str
    shape: Shape
    initializer: initializers.Initializer
    regularizer: regularizers.Regularizer | None = None
    trainable: bool = True
    panel: int = 0
    constraint: constraints.Constraint | None = None


@dataclass(frozen=True)
class Tail:
    """What may follow a layer in inference and be done on the way to its output.

    Attributes:
        norm: name of the batch normalisation that reads the layer's output; epsilon: its own.
        other: what is added then.
        relu: relu comes last.
    """

    norm: str = ""
    epsilon: float = 0.0
    other: Buffer | None = None
    relu: bool = False


class Build(Protocol):
    """What a layer's forward and backward are handed to declare their work with (see `parnet.plan.builder`)."""

    #: the layer's output need not be activated: the loss does it, and its gradient is that of the sum before it
    fused_output: bool
    #: for each input, whether somebody before this layer needs its gradient
    gradients_wanted: tuple[bool, ...]
    #: shapes of the inputs
    given: tuple[Shape, ...]
    #: rows of a full batch
    batch: int
    #: parts at most
    threads: int
    #: number of this call of a layer in its model
    node: int
    #: virtual shards of a batch; each runs the layer's steps on rows of its own
    shards: int
    #: whether work may be gone round as only the CPU's kernels can, see `parnet.plan.plan.Request`
    shortcuts: bool

    @property
    def input_gradient_wanted(self) -> bool:
        """One of the gradients is wanted."""

    def weight(self, name: str, owner: str = "") -> Buffer:
        """The layer's weight of that name, or another layer's."""

    def gradient(self, name: str) -> Buffer: ...
    def rides(self, name: str) -> bool:
        """The weight's gradient is not stored: its step updates the weight, and gets that as target."""

    def gradient_mode(self, name: str) -> int:
        """The kernel's operand that says whether a gradient is stored, added to what is there, or the weight updated."""

    def sole_reader(self, x: Buffer) -> bool:
        """Nobody but this layer reads x, now or later: forward may write over it."""

    def rows(self, name: str, shape: Shape) -> Buffer: ...
    def turned(self, name: str, width: int) -> Buffer: ...
    def exchange(self, name: str, width: int) -> Buffer:
        """`width` numbers for each shard that all may read, once the shards that write them have met."""

    def fixed(self, name: str, width: int) -> Buffer: ...
    def product_share(self, width: int) -> int: ...
    def keep(self, **buffers: Buffer) -> None: ...
    def kept(self, name: str) -> Buffer: ...
    def fold_into_input(self, x: Buffer, scale: float, offset: float) -> bool: ...
    def without_padding(self, x: Buffer, most: tuple[int, int]) -> tuple[Buffer, tuple[int, int]]:
        """What lies in x amid zeros, if x is nothing else and has fewer of them on each side than `most`, and how many lie
        above and left; x itself otherwise. The layer takes it as it is: nobody lays it into zeros.
        """

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
    ) -> None: ...

    def prepare(self, kernel: str, operands: tuple, accesses: tuple, share: int, extent: tuple, bytes: float) -> None:
        """As `step`, in inference, for what is made of weights alone: it comes first, and is left out while they stay."""

    def step_after_loss(self, *args, **kwargs) -> None:
        """As `step`, for what outlasts the batch: `fit` runs it only once the loss is known to be finite."""


registry: Registry[Layer]


def is_ours(layer: Layer, *methods: str) -> bool:
    """Whether these methods of a layer are parnet's own, and not a user's subclass's: the planner knows what they do."""
    return all(getattr(type(layer), name).__module__.startswith("parnet.") for name in methods)


class Layer(Configurable):
    """Base of all layers.

    Args:
        name: unique in its model; made from the class's name when left out.
        input_shape: of one sample, on a first layer; input_dim=n is input_shape=(n,).
        trainable: False keeps the optimizer away from the layer's weights.
    """

    examples: ClassVar[Callable[[], list[tuple[Any, Any]]]]
    #: what it can be in the tail of another layer: "norm", "add", "relu", see `Tail`
    tail_part: str = ""
    #: what it can be in a head, see `parnet.plan.heads`: "norm" or "product"
    head_part: str = ""
    #: takes several inputs, see the module's docstring
    merges: ClassVar[bool] = False
    #: the steps that make its gradients can update its weights on the way (`Build.rides`)
    update_rides: ClassVar[bool] = False
    #: starts a graph: an Input
    is_input: ClassVar[bool] = False

    def __init__(self, *, name: str | None = None, input_shape=None, input_dim: int | None = None, trainable: bool = True):
        if input_dim is not None:
            if input_shape is not None:
                raise HyperparameterError(
                    f"{type(self).__name__}: input_dim and input_shape are one argument; give one of them"
                )
            input_shape = (input_dim,)
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_.\-]+", str(name)):
            raise HyperparameterError(
                f"{type(self).__name__}: expected a name of letters, digits, '_', '.' and '-', received {name!r}"
            )
        self.name = name
        self.input_shape = None if input_shape is None else check_shape(input_shape, type(self).__name__)
        self.trainable = check_flag(trainable, f"{type(self).__name__}(trainable)")
        self._values: Any = None
        self._auto_named = False
        self._made: list[tensor.Tensor] = []
        self._home: Any = None
        self._places: dict[str, Any] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            registry.add()(cls)

    def weights(self, input_shape: Shape) -> tuple[Weight, ...]:
        """The arrays the layer owns for that input."""
        return ()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output sample. Raises ShapeError where the input cannot work."""
        return input_shape

    def forward(self, build: Build, x: Buffer, training: bool) -> Buffer:
        """Declare the steps from x to the output."""
        raise _incomplete(self, "forward")

    def backward(self, build: Build, dy: Buffer) -> Buffer | None:
        """Declare the steps from the output's gradient to the input's; dy may be overwritten."""
        raise _incomplete(self, "backward")

    def takes(self, tail: Tail) -> bool:
        """Whether `forward_with` can do that on the way: then the layers it stands for declare nothing in inference."""
        return False

    def forward_with(self, build: Build, x: Buffer, tail: Tail) -> Buffer:
        """As `forward` in inference, for the layer and what follows it. Asked for only where `takes` agrees."""
        raise _incomplete(self, "forward_with")

    # -- graphs ---------------------------------------------------------------------------------

    def __call__(self, x, training: bool | None = None) -> tensor.Tensor:
        """The symbolic output for a symbolic input; a merging layer takes a list of them.

        Args:
            training: None or True: whether a layer is active in training alone, it knows by itself.
        Raises:
            ShapeError: the layer cannot work on such shapes. DTypeError: x is an array. HyperparameterError: `training`.
        """
        if training not in (None, True):
            raise HyperparameterError(
                f"{self.label()}: expected training None or True, received {training!r}; layer.trainable = False "
                "freezes a layer, and of a BatchNormalization it uses the moving averages"
            )
        return tensor.call(self, x)

    @property
    def output(self) -> tensor.Tensor:
        """What the layer makes, as a symbolic tensor. Raises StateError where it was called never, or more than once."""
        return tensor.the_one(self, "output")

    @property
    def outputs(self) -> list[tensor.Tensor]:
        """What each call of the layer makes."""
        return list(self._made)

    @property
    def input(self) -> tensor.Tensor | list[tensor.Tensor]:
        """What the layer was called on: a tensor, or a list for a merging layer. Raises as `output` does."""
        made = tensor.the_one(self, "input")
        return made if self.is_input else (list(made.inputs) if self.merges else made.inputs[0])

    # -- what users read ------------------------------------------------------------------------

    def settle(self, home: Any, places: dict[str, Any]) -> None:
        """Called by the first model of the layer: whose vectors its arrays lie in, and where."""
        self._home, self._places = home, places

    def bind(self, values: Any) -> None:
        """Called by the model once its weights exist: `values` maps a weight's name to a Parameter."""
        self._values = values

    def __getattr__(self, name: str):
        if "_values" not in self.__dict__:  # label() below would ask for the name, and so come here again
            raise AttributeError(
                f"{type(self).__name__}: no attribute {name!r}; its __init__ has not called super().__init__(), or raised"
            )
        values = self._values
        if values is not None and name in values:
            return values[name]
        if name.startswith("_"):
            raise AttributeError(name)
        owns = f"its weights are {', '.join(values)}" if values else "it has no weights, or its model is not built yet"
        raise AttributeError(f"{self.label()}: no attribute {name!r}; {owns}")

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the layer's arrays, in the order of `weights`."""
        return [parameter.numpy() for parameter in (self._values or {}).values()]

    def set_weights(self, arrays) -> None:
        """Replace all of the layer's arrays.

        Raises:
            ShapeError: another number of arrays, or one of another shape. Nothing is changed then.
        """
        parameters = list((self._values or {}).values())
        arrays = check_list(arrays, f"{self.label()}: set_weights", "arrays")
        if len(arrays) != len(parameters):
            raise ShapeError(f"{self.label()}: expected {len(parameters)} arrays, received {len(arrays)}")
        checked = [p.check(a) for p, a in zip(parameters, arrays, strict=True)]
        for parameter, array in zip(parameters, checked, strict=True):
            parameter.assign(array)

    def count_params(self) -> int:
        """Numbers in all of the layer's arrays. Raises StateError where its model's input shape is not known."""
        if self._values is None:
            raise StateError(f"{self.label()}: has no weights yet; put it into a model whose input's shape is known")
        return sum(count(parameter.shape) for parameter in self._values.values())

    def label(self) -> str:
        """The layer as messages name it: dense_2 (Dense 10)."""
        return f"{self.name or snake_case(type(self).__name__)} ({self.describe()})"

    def describe(self) -> str:
        """Class and main size."""
        return type(self).__name__

    def get_config(self) -> dict:
        config = super().get_config()
        for name, usual in (("input_shape", None), ("trainable", True)):
            if config.get(name) == usual:
                config.pop(name, None)
        return config


def _incomplete(layer: Layer, method: str) -> StateError:
    """The error for a layer that lacks a part of the contract."""
    return StateError(f"{layer.label()}: a layer needs a method {method}; see parnet.layers.base")


registry = Registry("layer", Layer)


def check_shape(shape, where: str) -> Shape:
    """A shape as a tuple of positive ints, from a list, a tuple or one int.

    Raises:
        ShapeError: it is none, such as one with a None or 0 in it.
    """
    try:
        items = (shape,) if is_whole(shape) else tuple(shape)
    except TypeError:
        items = (None,)
    if not all(is_whole(n, 1) for n in items):
        raise ShapeError(
            f"{where}: expected a shape of whole numbers above 0 without the batch, such as (28, 28), received {shape!r}"
        )
    return tuple(int(n) for n in items)


def without_batch(shape, where: str) -> Shape:
    """As `check_shape`, of one sample; a leading None, which stands for the batch, is left out."""
    batched = isinstance(shape, list | tuple) and len(shape) > 0 and shape[0] is None
    return check_shape(shape[1:] if batched else shape, where)


def count(shape: Shape) -> int:
    """How many numbers an array of that shape holds."""
    result = 1
    for n in shape:
        result *= n
    return result
