"""The network of an estimator: built, compiled, and when its training ends. Stage: beneath the estimators.

Must not know: scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import layers as L
from .. import losses, optimizers, regularizers
from ..callbacks import Callback
from ..checks import check_argument, check_count, check_number
from ..errors import DTypeError, ShapeError, StateError
from ..layers.base import Shape, count
from ..model import Model
from ..sequential import Sequential

#: scikit-learn's names of activations -> parnet's
ACTIVATIONS = {"logistic": "sigmoid", "identity": "linear"}
#: activations after which outputs are probabilities
_PROBABILITIES = ("softmax", "sigmoid")


def dense_network(shape: Shape, outputs: int, last: str, sizes: Any, activation: Any, l2: float, dtype: str) -> Model:
    """A network as MLPClassifier and MLPRegressor have it.

    Args:
        shape: of one sample.
        outputs, last: units of the last layer, and its activation.
        sizes, activation: units of the hidden layers, a number or several, and their activation.
        l2: factor of the penalty on all kernels.
        dtype: of weights and arithmetic.
    """
    several = sizes if isinstance(sizes, Iterable) else [sizes]
    hidden = [check_count(units, "hidden_layer_sizes") for units in several]
    name = ACTIVATIONS.get(activation, activation) if isinstance(activation, str) else activation
    pairs = [*((units, name) for units in hidden), (outputs, last)]
    dense = [L.Dense(units, f, kernel_regularizer=regularizers.L2(l2) if l2 else None) for units, f in pairs]
    return Sequential([L.Input(shape), *([L.Flatten()] if len(shape) > 1 else []), *dense], dtype=dtype)


def built(builder: Any, shape: Shape) -> Model:
    """What the builder makes, ready for samples of that shape.

    Raises:
        DTypeError: it is no builder, or what it returns is no model. StateError: a model with weights.
        ShapeError: samples of another size.
    """
    if not callable(builder) or isinstance(builder, Model):
        raise DTypeError(
            f"model: expected a function that returns a new model, lambda: pn.Sequential([...]), received {builder!r}"
        )
    model = builder()
    if not isinstance(model, Model):
        raise DTypeError(f"model: expected a function that returns a parnet model, received one that returns {model!r}")
    if model._session is None:
        model.build(shape)  # type: ignore[attr-defined]
    if model.session.has_weights:
        raise StateError("model: expected a function that makes a new model each time, received one whose model has weights")
    if len(model.inputs) != 1 or len(model.outputs) != 1 or count(model.input_shape) != count(shape):
        raise ShapeError(
            f"model: expected a network from one input of {count(shape)} numbers, shape {shape}, to one output, received "
            f"input {model.input_shape}, output {model.output_shape}; let the builder's input shape be that of the data"
        )
    return model


def compile_as_needed(
    model: Model, optimizer: Any, learning_rate: Any, loss: Any, metrics: Iterable[str], seed: int
) -> None:
    """Compile a model, unless its builder has; either way with the seed."""
    if model.optimizer is not None and model.loss is not None:
        known = {metric.name for metric in model.metrics}
        model.compile(model.optimizer, model.loss, [*model.metrics, *(m for m in metrics if m not in known)], seed=seed)
        return
    if isinstance(optimizer, optimizers.Optimizer):  # the caller's own stays as it is, for the next fit
        rule = optimizers.get(optimizers.registry.dump(optimizer))
    else:
        rule = optimizers.get(optimizer)
        rule.learning_rate = learning_rate
    model.compile(rule, loss, tuple(metrics), seed=seed)


def crossentropy(model: Model) -> losses.Loss:
    """The crossentropy that fits a classifier's last layer: of one output binary, of several by class number."""
    logits = _last_activation(model) not in _PROBABILITIES
    if count(model.output_shape) == 1:
        return losses.BinaryCrossentropy(from_logits=logits)
    return losses.SparseCategoricalCrossentropy(from_logits=logits)


def _last_activation(model: Model) -> str:
    activation = getattr(model.outputs[0].layer, "activation", None)
    return getattr(activation, "name", "linear")


def probabilities(model: Model, outputs: np.ndarray) -> np.ndarray:
    """(rows, classes) from a classifier's outputs (rows, classes), or (rows, 1) of the second class of two."""
    from .. import activations

    sums = getattr(model.loss, "from_logits", False)
    if outputs.shape[1] == 1 and isinstance(model.loss, losses.BinaryCrossentropy):
        second = activations.sigmoid(outputs) if sums else outputs
        return np.concatenate([1 - second, second], axis=1)
    return activations.softmax(outputs) if sums else outputs


class Plateau(Callback):
    """Stops as MLPClassifier does: after more than `patience` epochs in a row that were no better than the best by `tol`.

    Args:
        monitor: name of the metric.
        sign: 1 where more is better, -1 where less is.
        keep_best: at the end the weights are those of the best epoch.
    """

    def __init__(self, monitor: str, sign: int, tol: float, patience: int, keep_best: bool):
        self.monitor, self.sign, self.keep_best = monitor, sign, keep_best
        self.tol = check_number(tol, "tol", 0)
        self.patience = check_count(patience, "n_iter_no_change")
        self._best, self._waited = -math.inf, 0
        self._weights: list[np.ndarray] | None = None

    @property
    def best(self) -> float:
        """The best value seen."""
        return self.sign * self._best

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Compare, and stop where it is time."""
        value = self.sign * (logs or {})[self.monitor]
        self._waited = self._waited + 1 if value < self._best + self.tol else 0
        if value > self._best:
            self._best = value
            if self.keep_best:
                self._weights = self.model.get_weights()
        if self._waited > self.patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None) -> None:
        """Put back the best weights."""
        if self._weights is not None:
            self.model.set_weights(self._weights)


def batch_of(batch_size: Any, rows: int) -> int:
    """Rows of a batch; "auto" is 200 at most, as in MLPClassifier."""
    named = isinstance(batch_size, str)
    check_argument(not named or batch_size == "auto", "batch_size", "'auto' or a number", batch_size, "pass one")
    return min(rows, 200 if named else check_count(batch_size, "batch_size"))
