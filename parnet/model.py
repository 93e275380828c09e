"""The user's door: Sequential. Stage: model. Everything is delegated; here arguments are checked and put together.

Must not know: kernels, steps, threads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import losses, metrics, optimizers, seeding
from . import strategy as how
from .errors import HyperparameterError, ShapeError, StateError, unknown_name
from .layers import Input
from .layers.base import Layer, Shape, check_shape
from .plan.plan import Network, Request, make_plan
from .registry import snake_case
from .train import data
from .train.evaluate import measure, predict
from .train.fit import run_fit
from .train.history import History
from .train.parameters import Parameter, Parameters
from .train.prepare import FitArguments, check_rows, prepare_fit
from .train.progress import progress
from .train.session import Session
from .train.single import train_on_rows
from .train.values import Output
from .train.watch import InputRange

DTYPES = ("float32", "float64")


class Sequential:
    """Layers one after the other.

    Args:
        layers: in order; the first one, or an Input, states the input's shape.
        name: of the model.
        dtype: "float32" or "float64", of weights and arithmetic.
        seed: of weights, shuffles and dropout; drawn from `pn.set_seed` when left out.

    >>> import parnet as pn
    >>> from parnet import layers as L
    >>> model = pn.Sequential([L.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)])
    >>> model.count_params()
    23
    """

    def __init__(
        self,
        layers: Sequence[Layer] = (),
        *,
        name: str = "sequential",
        dtype: str = "float32",
        seed: int | None = None,
    ):
        if dtype not in DTYPES:
            raise unknown_name("dtype", dtype, DTYPES)
        self.name, self.dtype = name, dtype
        self.seed = seeding.next_seed() if seed is None else seeding.check_seed(seed)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metrics: tuple[metrics.Metric, ...] = ()
        self.stop_training, self.training = False, True
        self.history: History | None = None
        self._layers: list[Layer] = []
        self._session: Session | None = None
        self.input_range = InputRange()
        for layer in layers:
            self._append(layer)
        self._build()

    # -- structure ------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer.

        Raises:
            ShapeError: it cannot take what comes before it.
            StateError: the model has weights already, or the layer is in a model already.
        """
        self._append(layer)
        try:
            self._build()
        except ShapeError:
            self._layers.pop()
            raise

    def _append(self, layer: Layer) -> None:
        if not isinstance(layer, Layer):
            raise ShapeError(f"Sequential: expected a layer, received {layer!r}; layers are objects such as Dense(10)")
        if self._session is not None and self._session.has_weights:
            raise StateError("Sequential.add: the model has weights already; add all layers before using it")
        if layer._values is not None or any(layer is other for other in self._layers):
            raise StateError(f"Sequential: the layer {layer.label()} is in the model already; make a new one")
        layer.name = self._free_name(layer)
        self._layers.append(layer)
        self._session = None

    def _free_name(self, layer: Layer) -> str:
        taken = {other.name for other in self._layers}
        if layer.name is not None and layer.name not in taken:
            return layer.name
        if layer.name is not None and not layer._auto_named:
            raise HyperparameterError(f"Sequential: two layers are called {layer.name!r}; give each its own name")
        base = snake_case(type(layer).__name__)
        layer._auto_named = True
        number = 0
        while (name := base if not number else f"{base}_{number}") in taken:
            number += 1
        return name

    def _build(self) -> None:
        """Shapes and places of all weights, once the input's shape is known; no weight is made."""
        shape = self.input_shape
        if shape is None or all(isinstance(layer, Input) for layer in self._layers):
            return
        network = Network.of(self._layers, shape)
        self._session = Session(network, self.seed, self.dtype)
        own: dict[str, dict[str, Parameter]] = {str(layer.name): {} for layer in self._layers}
        for key, placed in network.placed.items():
            own[key.rsplit("/", 1)[0]][placed.weight.name] = Parameter(self._session, placed)
        for layer in self._layers:
            layer.bind(own[str(layer.name)])

    @property
    def layers(self) -> list[Layer]:
        """The layers, without Input."""
        return [layer for layer in self._layers if not isinstance(layer, Input)]

    @property
    def input_shape(self) -> Shape | None:
        """Of one sample, or None while it is not known."""
        return self._layers[0].input_shape if self._layers else None

    @property
    def output_shape(self) -> Shape:
        """Of one sample."""
        return self.session.network.output_shapes[0]

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

    def build(self, input_shape) -> None:
        """State the input's shape after the fact.

        Args:
            input_shape: of one sample, without the batch; a leading None is left out.
        """
        shape = tuple(input_shape)
        shape = check_shape(shape[1:] if shape and shape[0] is None else shape, f"{self.name}.build")
        if self._layers and self._layers[0].input_shape is None:
            self._layers[0].input_shape = shape
        self._build()

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its number."""
        if index is not None:
            return self.layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise unknown_name("layer", name, [str(layer.name) for layer in self._layers])

    def summary(self, print_fn=print) -> None:
        """Print layers, output shapes and parameter counts. Allocates no weights."""
        from .summary import summary

        print_fn(summary(self))

    def count_params(self) -> int:
        """Numbers in all weights, trainable or not."""
        return sum(p.count for p in self.session.network.placed.values())

    def explain(self, batch_size: int = 32, threads: int = 1) -> str:
        """The plan of a training step as a table; see `Plan.explain`."""
        self._check_compiled("explain")
        request = Request(
            "train",
            batch_size,
            dtype=self.dtype,
            threads=threads,
            loss=self.loss,
            metrics=self.metrics,
            optimizer=self.optimizer,
        )
        return make_plan(self.session.network, request).explain()

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
        mine = self.weights
        if len(arrays) != len(mine):
            raise ShapeError(f"{self.name}.set_weights: expected {len(mine)} arrays, received {len(arrays)}")
        checked = [p.check(a) for p, a in zip(mine, arrays, strict=True)]
        for p, array in zip(mine, checked, strict=True):
            p.assign(array)

    def save(self, path) -> None:
        """Write layers, weights, optimizer and its state into one file; see `parnet.io`."""
        from .io.model_file import save_model

        save_model(self, path)

    def save_weights(self, path) -> None:
        """Write the weights alone into one file."""
        from .io.model_file import save_weights

        save_weights(self, path)

    def load_weights(self, path, format: str = "auto", strict: bool = True):
        """Read the weights from a file of parnet, Keras or PyTorch (safetensors); see `parnet.io.weights`."""
        from .io.weights import load_weights

        return load_weights(self, path, format, strict)

    # -- the manual loop ------------------------------------------------------------------------

    def train(self) -> None:
        """From now on model(x) is in training mode: dropout on, batch statistics used."""
        self.training = True

    def eval(self) -> None:
        """From now on model(x) is in inference mode."""
        self.training = False

    def __call__(self, x, training: bool | None = None) -> Output:
        """One batch through the model, ready for a loss and its `backward`.

        Args:
            x: (rows, *input shape).
            training: by default True, or what `train()` and `eval()` set last.
        """
        return self.session.forward(x, self.training if training is None else bool(training))

    # -- training -------------------------------------------------------------------------------

    def compile(
        self,
        optimizer="sgd",
        loss=None,
        metrics: Sequence | str = (),
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        seed: int | None = None,
    ) -> None:
        """State how the model is trained.

        Args:
            optimizer, loss: names or objects.
            metrics: names or objects.
            clipnorm, clipvalue: set on the optimizer.
            seed: of shuffles and dropout, and of the weights if none have been made yet.
        """
        from . import metrics as known

        rule, loss = optimizers.get(optimizer), None if loss is None else losses.get(loss)
        chosen = tuple(known.get(m) for m in ([metrics] if isinstance(metrics, str) else metrics))
        names = [m.name for m in chosen]
        if len(set(names)) != len(names):
            raise HyperparameterError(f"compile: expected metrics of different names, received {', '.join(names)}")
        if rule.iterations and rule is not self.optimizer:
            raise StateError(
                f"compile: this {type(rule).__name__} has made {rule.iterations} updates elsewhere; make a new one"
            )
        if clipnorm is not None:
            rule.clipnorm = rule._positive("clipnorm", clipnorm)
        if clipvalue is not None:
            rule.clipvalue = rule._positive("clipvalue", clipvalue)
        if seed is not None:
            self.seed = seeding.check_seed(seed)
            if self._session is not None:
                self._session.seed = self.seed
        if self._session is not None:
            self._session.refresh()
            if rule is not self.optimizer:
                self._session.reset_slots()
        self.optimizer, self.loss, self.metrics = rule, loss, chosen

    def _check_compiled(self, where: str) -> None:
        if self.optimizer is None or self.loss is None:
            raise StateError(f"{where}: the model is not compiled; call compile(optimizer, loss) first")

    def fit(
        self,
        x,
        y=None,
        batch_size: int = 32,
        epochs: int = 1,
        *,
        verbose: Any = "auto",
        callbacks: Any = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict | None = None,
        sample_weight=None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        strategy: Any = "auto",
    ) -> History:
        """Train for some epochs.

        Args:
            x: inputs (rows, *input shape); uint8 stays uint8, float64 is converted once.
            y: targets, as the loss wants them.
            batch_size: rows an update; the last batch of an epoch may be smaller.
            epochs, initial_epoch: epochs initial_epoch + 1 .. epochs are run.
            verbose: 0 nothing, 1 a bar, 2 a line an epoch, "auto" a bar on a terminal or in a notebook, else lines.
            callbacks: see `parnet.callbacks`.
            validation_split: share of the rows, taken from the end before shuffling.
            validation_data: (x, y) or (x, y, sample_weight) instead.
            shuffle: a new order in each epoch.
            class_weight: {class: weight}; sample_weight: (rows,).
            steps_per_epoch: batches of an epoch, if not all.
            strategy: "auto", "serial", "threads", or an object of `parnet.strategy`; the numbers are the same.
        Returns:
            the History.
        Raises:
            ParnetError: of the kind that fits, before any work starts; NonFiniteLossError where the loss diverges, with
                the weights left as they were before that step.
            KeyboardInterrupt: after saying how far it got; the model stays usable.
        """
        self._check_compiled("fit")
        job, display, hooks, history = prepare_fit(
            self,
            x,
            y,
            FitArguments(
                batch_size,
                epochs,
                verbose,
                callbacks,
                validation_split,
                validation_data,
                bool(shuffle),
                class_weight,
                sample_weight,
                initial_epoch,
                steps_per_epoch,
                how.get(strategy),
            ),
        )
        self.stop_training, self.history = False, history
        run_fit(self, job, hooks, history, display)
        return history

    def evaluate(
        self, x, y=None, batch_size: int = 32, *, sample_weight=None, return_dict=False, verbose=0, strategy="auto"
    ):
        """Loss and metrics of a data set, in inference mode.

        Returns:
            [loss, metric, ...], the loss alone without metrics, or a dict.
        """
        self._check_compiled("evaluate")
        chosen = how.get(strategy)
        rows = check_rows(self, x, y, sample_weight, None, "evaluate")
        batch_size = data.check_count(batch_size, "evaluate: batch_size")
        self.input_range.compare(rows.x, "evaluate")
        display = progress(verbose, len(rows), training=False)
        begun = time.perf_counter()
        with display:
            display.begin()
            display.epoch_begin(0)
            logs = measure(self, rows.x, rows.y, rows.weight, batch_size, chosen).results()
            display.epoch_end(0, time.perf_counter() - begun, logs)
        self.session.close()
        if return_dict:
            return logs
        return list(logs.values()) if self.metrics else logs["loss"]

    def predict(self, x, batch_size: int = 32, *, verbose=0, strategy="auto") -> np.ndarray:
        """Outputs (rows, *output shape) of a data set, in inference mode."""
        chosen = how.get(strategy)
        inputs = data.as_inputs(x, self.session.network.input_shapes[0], "predict: x", self.dtype, rows=0)
        self.input_range.compare(inputs, "predict")
        result = predict(self, inputs, data.check_count(batch_size, "predict: batch_size"), chosen)
        self.session.close()
        return result

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, *, return_dict=False):
        """One update with one batch. Returns what `evaluate` does, measured before the update."""
        self._check_compiled("train_on_batch")
        rows = check_rows(self, x, y, sample_weight, class_weight, "train_on_batch")
        logs = train_on_rows(self, rows)
        if return_dict:
            return logs
        return list(logs.values()) if self.metrics else logs["loss"]

    def predict_on_batch(self, x) -> np.ndarray:
        """Outputs of one batch, in inference mode."""
        inputs = data.as_inputs(x, self.session.network.input_shapes[0], "predict_on_batch: x", self.dtype)
        return self.session.predict_batch(inputs)

    def __repr__(self) -> str:
        return f"Sequential({self.name}, {len(self.layers)} layers)"
