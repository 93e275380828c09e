"""ParnetClassifier and ParnetRegressor. Stage: on top of models. Must not know: plans, kernels, threads.

scikit-learn's rules: `__init__` stores its arguments untouched, `fit` checks them; what was learned ends in an underscore.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..checks import check_argument, check_count, check_flag, check_list, check_number
from ..errors import DataError, ShapeError
from ..layers.base import count
from ..model import Model
from .network import Plateau, batch_of, built, compile_as_needed, crossentropy, dense_network, probabilities


class _Estimator(BaseEstimator):
    """What classifier and regressor share; arguments, see `ParnetClassifier`."""

    #: metric whose score `early_stopping` watches, and 1 where more of it is better
    _watched = ("val_loss", -1)
    _metrics: tuple[str, ...] = ()

    def __init__(
        self,
        model=None,
        *,
        hidden_layer_sizes=(100,),
        activation="relu",
        alpha=0.0001,
        optimizer="adam",
        learning_rate=0.001,
        loss="auto",
        batch_size="auto",
        epochs=200,
        shuffle=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        strategy="auto",
        random_state=None,
        verbose=0,
    ):
        self.model = model
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.loss = loss
        self.batch_size = batch_size
        self.epochs = epochs
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.strategy = strategy
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # -- data -----------------------------------------------------------------------------------

    def _checked(self, *arrays, reset: bool = False, **kind) -> Any:
        """X, or X and y, as arrays that scikit-learn has nothing against; samples may have any number of axes."""
        return validate_data(self, *arrays, reset=reset, allow_nd=True, **kind)

    def _shaped(self, X: np.ndarray) -> np.ndarray:
        """Samples in the shape that the network wants."""
        shape = self.model_.input_shape
        if count(X.shape[1:]) != count(shape):
            raise ShapeError(f"{type(self).__name__}: expected samples of shape {shape}, received {X.shape[1:]}")
        return X.reshape(len(X), *shape)

    def _weights(self, sample_weight, rows: int) -> tuple[np.ndarray | None, float]:
        """Sample weights (rows,) brought to a mean of 1, so that only their proportions matter, and their mean before.

        Raises:
            DataError: of another length, negative, not finite, or all zero.
        """
        if sample_weight is None:
            return None, 1.0
        weight = np.asarray(sample_weight, dtype=np.float64)
        where = f"{type(self).__name__}: sample_weight"
        weight = np.full(rows, weight) if weight.shape == () else weight
        if weight.shape != (rows,):
            raise DataError(f"{where}: expected ({rows},), one a row, received {weight.shape}")
        if not np.isfinite(weight).all() or weight.min() < 0:
            raise DataError(f"{where}: expected finite numbers of 0 or more, received {weight.min():g} among them")
        if not weight.any():
            raise DataError(f"{where}: expected at least one non-zero number, received zeros alone")
        mean = float(weight.mean())
        return weight / mean, mean

    # -- training -------------------------------------------------------------------------------

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _make(self, X: np.ndarray, outputs: int, weight_mean: float) -> Model:
        """A new network for samples like X, compiled; `outputs` is what the targets ask for."""
        if self.model is None:
            alpha = check_number(self.alpha, "alpha", 0)
            # the penalty of a batch is alpha / 2 sum w^2 over its rows; mse is twice MLPRegressor's loss
            l2 = alpha * self._loss_scale / (2 * batch_of(self.batch_size, len(X)) * weight_mean)
            dtype = "float64" if X.dtype == np.float64 else "float32"
            shape = X.shape[1:]
            last = self._last_activation
            model = dense_network(shape, outputs, last, self.hidden_layer_sizes, self.activation, l2, dtype)
        else:
            model = built(self.model, X.shape[1:])
            self._check_outputs(model, outputs)
        check_argument(self.loss is not None, "loss", "'auto' or a loss", self.loss, "leave it out for 'auto'")
        loss = self._default_loss(model) if isinstance(self.loss, str) and self.loss == "auto" else self.loss
        compile_as_needed(model, self.optimizer, self.learning_rate, loss, self._metrics, self._seed())
        return model

    def _start(self, X: np.ndarray, outputs: int, weight_mean: float) -> None:
        """A new network, not trained yet."""
        self.model_ = self._make(X, outputs, weight_mean)
        self.n_iter_ = 0
        self.loss_curve_: list[float] = []

    def _fit(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        """All epochs, until the stop rule ends them."""
        validation, rows = None, np.arange(len(X))
        stopping = check_flag(self.early_stopping, "early_stopping")
        if stopping:
            share = check_number(self.validation_fraction, "validation_fraction", 0, 1, above=True, below=True)
            seed, classes = check_random_state(self.random_state), y if isinstance(self, ClassifierMixin) else None
            rows, held = train_test_split(rows, test_size=share, random_state=seed, stratify=classes)
            validation = (self._shaped(X[held]), self._targets(y[held]), *(() if weight is None else (weight[held],)))
            X, y, weight = X[rows], y[rows], None if weight is None else weight[rows]
        hooks = []
        if self.tol is not None:
            monitor, sign = self._watched if stopping else ("loss", -1)
            hooks.append(Plateau(monitor, sign, self.tol, self.n_iter_no_change, stopping))
        self.history_ = self._run(X, y, weight, check_count(self.epochs, "epochs"), hooks, validation)
        self.loss_ = self.loss_curve_[-1]
        self.best_validation_score_ = hooks[0].best if hooks and stopping else None

    def _run(self, X, y, weight, epochs: int, hooks: list, validation=None) -> dict[str, list[float]]:
        """So many more epochs; returns their metrics."""
        given = [self.callbacks] if hasattr(self.callbacks, "on_epoch_end") else self.callbacks
        own = [] if given is None else check_list(given, "callbacks", "callbacks")
        # a flag as scikit-learn has it: False shows nothing, True a bar
        verbose = int(self.verbose) if isinstance(self.verbose, bool) else self.verbose
        history = self.model_.fit(
            self._shaped(X),
            self._targets(y),
            batch_of(self.batch_size, len(X)),
            self.n_iter_ + epochs,
            initial_epoch=self.n_iter_,
            verbose=verbose,
            callbacks=[*own, *hooks],
            validation_data=validation,
            shuffle=self.shuffle,
            sample_weight=weight,
            strategy=self.strategy,
        )
        self.n_iter_ += len(history.epoch)
        self.loss_curve_ += history.history["loss"]
        return history.history

    def _outputs(self, X) -> np.ndarray:
        """The network's outputs (rows, outputs)."""
        check_is_fitted(self, "model_")
        X = self._checked(X)
        outputs = self.model_.predict(self._shaped(X), batch_of(self.batch_size, len(X)), strategy=self.strategy)
        return outputs.reshape(len(X), -1)

    def _check_width(self, model: Model, widths: tuple[int, ...]) -> None:
        """Raise ShapeError unless the model has as many outputs as the targets ask for."""
        if count(model.output_shape) not in widths:
            raise ShapeError(
                f"{type(self).__name__}: expected a model with {' or '.join(map(str, widths))} outputs, as the targets ask "
                f"for, received output shape {model.output_shape}; give its last layer {widths[0]} units"
            )


class ParnetClassifier(ClassifierMixin, _Estimator):
    """A network as scikit-learn classifier; by default that of MLPClassifier, with its hyperparameters.

    | here                                    | MLPClassifier                                                       |
    |-----------------------------------------|---------------------------------------------------------------------|
    | epochs                                  | max_iter                                                            |
    | optimizer="adam", learning_rate         | solver="adam", learning_rate_init                                   |
    | optimizer=pn.optimizers.SGD(momentum=0.9, nesterov=True) | solver="sgd"; its rates follow a schedule of ours  |
    | the rest                                | the same names and defaults                                         |

    The first weights are Keras's (Glorot uniform, biases 0). Arithmetic is in float64 for X of float64, as in
    scikit-learn; X.astype("float32") or uint8 is about twice as fast.

    Args:
        model: a function without arguments that returns a new network, such as `lambda: pn.Sequential([...])`; None for a
            dense one. A network it has compiled keeps its optimizer and loss; else those given here are used.
        hidden_layer_sizes, activation, alpha: of the dense network: units of its hidden layers, their activation, and the
            strength of the penalty on the squares of the weights. Without effect where `model` is given.
        optimizer: name or object; learning_rate: of an optimizer that was named, a number or a schedule.
        loss: "auto" for the crossentropy that fits the last layer, or one of parnet's.
        batch_size: rows an update; "auto" for at most 200.
        epochs: at most.
        shuffle: a new order in each epoch.
        early_stopping: hold back `validation_fraction` of the rows, watch their accuracy instead of the loss, and end with
            the best weights.
        n_iter_no_change, tol: stop after more than so many epochs in a row, none better than the best by tol; tol=None:
            never.
        warm_start: `fit` goes on from the weights there are.
        callbacks: of `parnet.callbacks`; strategy, verbose: as in `Model.fit`.
        class_weight: {class: weight}, or "balanced".
        random_state: number, RandomState or None; the same number gives the same weights on any number of threads.

    Attributes:
        model_: the trained `pn.Model`. classes_: in the order of `predict_proba`'s columns. n_features_in_.
        n_iter_: epochs done. loss_curve_, loss_: of each, and of the last. history_: all metrics of the last `fit`.
        best_validation_score_: with early stopping.

    X may have any number of axes where the network takes them; rows of as many numbers are brought into its shape.
    """

    _watched = ("val_accuracy", 1)
    _metrics = ("accuracy",)
    _last_activation, _loss_scale = "softmax", 1.0
    _default_loss = staticmethod(crossentropy)

    def __init__(
        self,
        model=None,
        *,
        hidden_layer_sizes=(100,),
        activation="relu",
        alpha=0.0001,
        optimizer="adam",
        learning_rate=0.001,
        loss="auto",
        batch_size="auto",
        epochs=200,
        shuffle=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        strategy="auto",
        class_weight=None,
        random_state=None,
        verbose=0,
    ):
        given = {name: value for name, value in locals().items() if name not in ("self", "class_weight", "__class__")}
        super().__init__(**given)
        self.class_weight = class_weight

    def fit(self, X, y, sample_weight=None):
        """Train on X (rows, ...) and labels y (rows,), numbers or texts.

        Args:
            sample_weight: (rows,), of which the proportions matter.
        Returns:
            the estimator.
        Raises:
            ValueError, TypeError: data or arguments that make no sense; parnet's own errors are of these kinds.
        """
        X, y = self._labelled(X, y, reset=True)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"ParnetClassifier: expected at least 2 classes in y, received 1 class, {classes[0]!r}")
        weight, mean = self._weights(self._with_classes(sample_weight, y), len(X))
        if not (check_flag(self.warm_start, "warm_start") and hasattr(self, "model_")):
            self.classes_ = classes
            self._start(X, len(classes), mean)
        elif not np.array_equal(classes, self.classes_):
            raise DataError(f"ParnetClassifier: expected the classes of the first fit, {self.classes_}, received {classes}")
        self._fit(X, codes, weight)
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """One epoch over X, y, from the weights there are; `class_weight` does not count here.

        Args:
            classes: all labels that will ever be seen; needed in the first call alone.
            sample_weight: (rows,), of which the proportions matter.
        Returns:
            the estimator.
        """
        first = not hasattr(self, "model_")
        X, y = self._labelled(X, y, reset=first)
        if first and classes is None:
            raise DataError("ParnetClassifier: classes must be passed on the first call to partial_fit")
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise DataError(f"ParnetClassifier: expected the classes of the first call, {known}, received {classes}")
        if (strange := np.setdiff1d(y, known)).size:
            raise DataError(f"ParnetClassifier: expected labels among {known}, received {strange}")
        weight, mean = self._weights(sample_weight, len(X))
        if first:
            self.classes_ = known
            self._start(X, len(known), mean)
        self._run(X, np.searchsorted(known, y), weight, 1, [])
        self.loss_ = self.loss_curve_[-1]
        return self

    def predict_proba(self, X) -> np.ndarray:
        """(rows, classes): the probability of each class."""
        outputs = self._outputs(X)
        return probabilities(self.model_, outputs)

    def predict(self, X) -> np.ndarray:
        """(rows,): the most probable label of each row."""
        probable = self.predict_proba(X)
        return self.classes_[probable.argmax(axis=1)]

    def _labelled(self, X, y, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = self._checked(X, y, reset=reset)
        check_classification_targets(y)
        return X, column_or_1d(y)

    def _with_classes(self, sample_weight, y: np.ndarray):
        if self.class_weight is None:
            return sample_weight
        return compute_sample_weight(self.class_weight, y) * (1 if sample_weight is None else np.asarray(sample_weight))

    def _targets(self, codes: np.ndarray) -> np.ndarray:
        """Class numbers, or one-hot rows for a loss that wants them."""
        width = count(self.model_.output_shape)
        return codes if width == 1 or self.model_.loss.labels else np.eye(width)[codes]

    def _check_outputs(self, model: Model, outputs: int) -> None:
        self._check_width(model, (outputs, 1) if outputs == 2 else (outputs,))


class ParnetRegressor(RegressorMixin, _Estimator):
    """A network as scikit-learn regressor; by default that of MLPRegressor, with its hyperparameters.

    Arguments and attributes are those of `ParnetClassifier`, without class_weight and classes_. "auto" as loss is the mean
    squared error, and early stopping watches that of the rows held back.
    """

    _last_activation, _loss_scale = "linear", 2.0

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y, sample_weight=None):
        """Train on X (rows, ...) and numbers y (rows,) or (rows, outputs); see `ParnetClassifier.fit`."""
        X, y = self._numbers(X, y, reset=True)
        weight, mean = self._weights(sample_weight, len(X))
        if not (check_flag(self.warm_start, "warm_start") and hasattr(self, "model_")):
            self._start(X, y[0].size, mean)
        self._fit(X, y, weight)
        return self

    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over X, y, from the weights there are."""
        first = not hasattr(self, "model_")
        X, y = self._numbers(X, y, reset=first)
        weight, mean = self._weights(sample_weight, len(X))
        if first:
            self._start(X, y[0].size, mean)
        self._run(X, y, weight, 1, [])
        self.loss_ = self.loss_curve_[-1]
        return self

    def predict(self, X) -> np.ndarray:
        """(rows,), or (rows, outputs) where there were several targets."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _numbers(self, X, y, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        X, y = self._checked(X, y, reset=reset, multi_output=True, y_numeric=True)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y

    def _default_loss(self, model: Model) -> str:
        return "mse"

    def _check_outputs(self, model: Model, outputs: int) -> None:
        self._check_width(model, (outputs,))
