"""The user's door: Model, a graph of layers, and all that is done with it. Stage: model. Everything is delegated; here
arguments are checked and put together. What a model is stands in `structure.py`.

Must not know: kernels, steps, threads.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from . import metrics, optimizers, seeding
from . import strategy as how
from .checks import check_count, check_flag
from .errors import StateError
from .io.recorded import recorded
from .layers.tensor import Tensor
from .plan.plan import Request, make_plan
from .structure import Structure
from .train import data
from .train.aims import aims_of, losses_of
from .train.evaluate import measure, predict
from .train.fit import run_fit
from .train.history import History
from .train.prepare import FitArguments, prepare_fit
from .train.progress import progress
from .train.single import train_on_rows
from .train.sources import as_inputs, as_source, check_rows
from .train.stream import Source


class Model(Structure):
    """Layers as a graph, from inputs to outputs; or of a class of one's own, with layers made in `__init__` and a method
    `call(self, inputs)` that calls them. It is followed once, when the input's shape is known: by `build`, or by the first
    data. With an argument `training` it is told True: layers such as Dropout know by themselves whether they are active.

    Args:
        inputs, outputs: a symbolic tensor, or a list of them; inputs are made by `pn.Input`, outputs by calling layers.
            Of a model's layers another model can be made, such as one that ends at an inner layer: they share weights.
        name: of the model.
        dtype: "float32" or "float64", of weights and arithmetic.
        seed: of weights, shuffles and dropout; drawn from `pn.set_seed` when left out.
    Raises:
        DTypeError: not symbolic tensors. StateError: outputs that need other inputs than these, inputs that no output
        needs, or layers of two other models. HyperparameterError: two layers of one name.

    >>> import parnet as pn
    >>> from parnet import layers as L
    >>> x = pn.Input((4,))
    >>> h = L.Dense(4, activation="relu")(x)
    >>> model = pn.Model(x, L.Dense(2)(L.Add()([x, h])))
    >>> model.count_params()
    30
    """

    @property
    def loss(self) -> Any:
        """What `compile` was given; a list for several outputs."""
        return losses_of(self.aims)

    @property
    def metrics(self) -> tuple[metrics.Metric, ...]:
        """Of all outputs, one after the other."""
        return tuple(metric for aim in self.aims for metric in aim.metrics)

    def explain(self, batch_size: int = 32, threads: int = 1) -> str:
        """The plan of a training step as a table; see `Plan.explain`."""
        self._check_compiled("explain")
        rows, parts = check_count(batch_size, "explain: batch_size"), check_count(threads, "explain: threads")
        request = Request("train", rows, dtype=self.dtype, threads=parts, optimizer=self.optimizer, aims=self.aims)
        return make_plan(self.session.network, request).explain()

    def save(self, path) -> None:
        """Write layers, weights, optimizer and its state into one file; see `parnet.io`."""
        from .io.model_file import save_model

        save_model(self, path)

    # -- the manual loop ------------------------------------------------------------------------

    def train(self) -> None:
        """From now on model(x) is in training mode: dropout on, batch statistics used."""
        self.training = True

    def eval(self) -> None:
        """From now on model(x) is in inference mode."""
        self.training = False

    def __call__(self, x, training: bool | None = None) -> Any:
        """One batch through the model, ready for a loss and its `backward`.

        Args:
            x: (rows, *input shape), an array; for several inputs a list of them, or a dict by the inputs' names.
            training: by default True, or what `train()` and `eval()` set last.
        Returns:
            the output (rows, *output shape); a list of several.
        Raises:
            StateError: x is a symbolic tensor; a model is no layer.
        """
        if isinstance(x, Tensor) or (isinstance(x, list | tuple) and any(isinstance(one, Tensor) for one in x)):
            raise StateError(
                f"{self.name}: expected arrays, received a symbolic tensor; a model is no layer: call its layers one after "
                "the other, for layer in model.layers: x = layer(x)"
            )
        self._see(x)
        return self.session.forward(x, self.training if training is None else bool(training))

    # -- training -------------------------------------------------------------------------------

    def compile(
        self,
        optimizer="sgd",
        loss=None,
        metrics: Any = (),
        *,
        loss_weights: Any = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        seed: int | None = None,
    ) -> None:
        """State how the model is trained.

        Args:
            optimizer: name or object.
            loss: name or object; for several outputs one for all, a list, or a dict by output, None for one not trained.
            metrics: names or objects, one of them or several, None for none; for several outputs those of every one, a list
                of lists, or a dict by output.
            loss_weights: of the losses of several outputs in their sum, a list or a dict by output.
            clipnorm, clipvalue: set on the optimizer.
            seed: of shuffles and dropout, and of the weights if none have been made yet.
        """
        rule = optimizers.get(optimizer)
        aims = aims_of(self._output_names(), loss, metrics, loss_weights)
        if clipnorm is not None:
            rule.clipnorm = rule._limit("clipnorm", clipnorm)
        if clipvalue is not None:
            rule.clipvalue = rule._limit("clipvalue", clipvalue)
        if seed is not None:
            self.seed = seeding.check_seed(seed)
            if self._session is not None:
                self._session.new_seed(self.seed)
        if self._session is not None:
            self._session.refresh()
            self._session.adopt(rule)
        self.optimizer, self.aims = rule, aims

    def _output_names(self) -> tuple[str, ...]:
        """Of the outputs, also where no shape is known yet."""
        return ("output",) if self._session is None else self.output_names

    def _check_compiled(self, where: str) -> None:
        if self.optimizer is None or not any(aim.loss for aim in self.aims):
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
        validation_steps: int | None = None,
        strategy: Any = "auto",
        trace: Any = None,
    ) -> History:
        """Train for some epochs.

        Args:
            x: inputs (rows, *input shape); uint8 stays uint8, float64 is converted once. For several inputs a list, or a
                dict by the inputs' names, of arrays with equally many rows. Or what `pn.DataLoader` takes, for data that do
                not fit into memory: a loader, paths of .npy or .npz files, an iterable of batches (x, y). An `np.memmap`
                of uint8 or floats is read in place.
            y: targets, as the loss wants them; for several outputs a list, or a dict by the outputs' names.
            batch_size: rows an update; the last batch of an epoch may be smaller.
            epochs, initial_epoch: epochs initial_epoch + 1 .. epochs are run.
            verbose: 0 nothing, 1 a bar, 2 a line an epoch, "auto" a bar on a terminal or in a notebook, else lines.
            callbacks: see `parnet.callbacks`.
            validation_split: share of the rows, taken from the end before shuffling.
            validation_data: (x, y), (x, y, sample_weight), a loader or an iterable instead.
            shuffle: a new order in each epoch, of arrays and files; a loader has an order of its own.
            class_weight: {class: weight}; sample_weight: (rows,).
            steps_per_epoch: batches of an epoch, if not all; of an iterable, an epoch then begins where the last one ended.
            validation_steps: batches of a validation, if not all.
            strategy: "auto", "serial", "threads", or an object of `parnet.strategy`; the numbers are the same.
            trace: path of a JSON file that says when each thread of each worker, or the GPU, did which step of the plan,
                and when it waited for whom, for the last 100,000 steps; `pn.viz.plot_timeline` draws it,
                https://ui.perfetto.dev shows it. Not of a parameter server in another mode than "sync".
        Returns:
            the History.
        Raises:
            ParnetError: of the kind that fits, before any work starts; NonFiniteLossError where the loss diverges, with
                the weights left as they were before that step.
            KeyboardInterrupt: after saying how far it got; the model stays usable.
        """
        self._check_compiled("fit")
        self._see(x)
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
                check_flag(shuffle, "fit: shuffle"),
                class_weight,
                sample_weight,
                initial_epoch,
                steps_per_epoch,
                how.get(strategy),
                validation_steps,
            ),
        )
        self.stop_training, self.history = False, history
        with recorded(self.session, trace, "fit", job.strategy):
            run_fit(self, job, hooks, history, display)
        return history

    def evaluate(
        self,
        x,
        y=None,
        batch_size: int = 32,
        *,
        sample_weight=None,
        steps=None,
        return_dict=False,
        verbose=0,
        strategy="auto",
        trace=None,
    ):
        """Loss and metrics of a data set, in inference mode. trace: as of `fit`.

        Args:
            x, y, sample_weight: as `fit` takes them. steps: batches, if not all.
        Returns:
            [loss, metric, ...], the loss alone without metrics, or a dict; for several outputs [loss, loss of each
            output, metric, ...].
        """
        self._check_compiled("evaluate")
        self._see(x)
        as_dict = check_flag(return_dict, "evaluate: return_dict")
        chosen = how.get(strategy)
        source = as_source(self, x, y, sample_weight, batch_size, steps, chosen, "evaluate")
        display = progress(verbose if chosen.leads else 0, source.samples, training=False, steps=source.steps)
        begun = time.perf_counter()
        with closing(self.session), closing(source), display:
            self._compare_ranges(source, "evaluate")
            display.begin()
            display.epoch_begin(0)
            with recorded(self.session, trace, "evaluate", chosen):
                measured = measure(self, source, chosen, lambda rows: display.update(rows, {}))
            logs = measured.results()
            display.learn_samples(measured.rows)
            display.epoch_end(0, time.perf_counter() - begun, logs)
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    def _compare_ranges(self, source: Source, where: str) -> None:
        """Warn of inputs of another scale."""
        first = source.peek(0)
        for seen, one in zip(self.input_ranges, first.rows.x if first else (), strict=False):
            seen.compare(one, where)

    def predict(self, x, batch_size: int = 32, *, steps=None, verbose=0, strategy="auto", trace=None) -> Any:
        """Outputs (rows, *output shape) of a data set, in inference mode; a list for several outputs.

        Args:
            x: as `fit` takes it; targets that a loader or an iterable gives are left aside. steps: batches, if not all.
            trace: as of `fit`.
        """
        self._see(x)
        chosen = how.get(strategy)
        source = as_inputs(self, x, batch_size, steps, chosen)
        with closing(self.session), closing(source):
            self._compare_ranges(source, "predict")
            with recorded(self.session, trace, "predict", chosen):
                result = predict(self, source, chosen)
        return result[0] if len(result) == 1 else result

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, *, return_dict=False):
        """One update with one batch. Returns what `evaluate` does, measured before the update."""
        self._check_compiled("train_on_batch")
        self._see(x)
        as_dict = check_flag(return_dict, "train_on_batch: return_dict")
        rows = check_rows(self, x, y, sample_weight, class_weight, "train_on_batch")
        logs = train_on_rows(self, rows)
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    def predict_on_batch(self, x) -> Any:
        """Outputs of one batch, in inference mode; a list for several outputs."""
        self._see(x)
        inputs = data.as_many_inputs(x, self.session.network, "predict_on_batch: x", self.dtype)
        result = self.session.predict_batch(inputs)
        return result[0] if len(result) == 1 else result

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {len(self.layers)} layers)"
