"""The session: one model's weights, its plans, and the verbs forward, backward, update. Stage: train.

`fit`, `evaluate` and `predict` run whole stretches of batches through it; the manual loop drives it verb by verb. Both
use the same plans, kernels and weights. Must not know: callbacks, progress, files.
"""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import StateError
from ..executors.base import Executor, Feed, close_all
from ..executors.link import Program
from ..executors.memory import Store, aligned_copy, aligned_zeros, bring_home, lengthened
from ..executors.recording import Recorder
from ..kernels import library
from ..losses import Loss
from ..optimizers import Optimizer
from ..plan.objective import Aim, Targets
from ..plan.plan import Network, Plan, Request, make_plan
from ..strategy import Auto, Strategy
from .data import as_many_inputs, as_targets, as_weights, kinds
from .diagnose import first_non_finite
from .keys import guess_loss, ones, rule_key, text
from .standing import Standing
from .values import SEVERAL, Output
from .weights import Weights

#: linked plans kept for the next call of the same kind
KEPT_PROGRAMS = 12


class Session:
    """See the module's docstring.

    Args:
        network: the model for the planner.
        seed: of weights, shuffles and dropout.
        dtype: "float32" or "float64".
        weights: that the network's layers have been given places in; new ones when left out.
    """

    def __init__(self, network: Network, seed: int, dtype: str = "float32", weights: Weights | None = None):
        self.network, self.seed, self.dtype = network, seed, dtype
        if weights is None:
            weights = Weights(seed, dtype)
            weights.take_in(network.placed.values(), network.sizes)
        self.weights = weights
        self.strategy: Strategy = Auto()
        self._store: Store | None = None
        self._optimizer: Optimizer | None = None  # whose slots the store has
        self._flags = tuple(layer.trainable for layer in network.layers)
        self._manual = Standing()
        self._set_up({})

    def _set_up(self, slots: dict[Optimizer, np.ndarray]) -> None:
        """What holds addresses, threads or weak references, and so does not go into a copy."""
        self.turn = threading.RLock()  # held by the Python thread that runs something: a program has room for one run
        self._programs: dict[tuple, Program] = {}
        self._executors: dict[tuple, Executor] = {}
        self._targets: dict[str, tuple[Targets | None, ...]] = {}
        self._made = 0
        self.recorder: Recorder | None = None  # while a trace is wanted
        self._slots = weakref.WeakKeyDictionary(slots)  # of optimizers other than the current one
        weakref.finalize(self, close_all, self._executors)

    def __getstate__(self) -> dict:
        """For copies and pickles: everything but what `_set_up` makes, and the vectors that are those of `weights`."""
        store = None if self._store is None else self.store
        state = self.__dict__.copy()
        for name in ("turn", "_programs", "_executors", "_targets", "_made", "recorder"):
            del state[name]
        manual = replace(self._manual, program=None, feed=None, measured=False, key=(), updater=None)
        slots = {rule: bring_home(vector) for rule, vector in self._slots.items()}
        return state | {"_store": store and store.without_weights(), "_manual": manual, "_slots": slots}

    def __setstate__(self, state: dict) -> None:
        slots = state.pop("_slots")
        self.__dict__.update(state)
        self._set_up({rule: aligned_copy(vector) for rule, vector in slots.items()})
        if self._store is not None:
            vars(self._store).update(self.weights.vectors())

    @property
    def store(self) -> Store:
        """The weights, made and initialised at the first use, with this model's gradients and slots; home from a device."""
        self.weights.version += 1  # whoever asks may write
        return self._ready().bring_home()

    def _ready(self) -> Store:
        """The store, wherever the newest numbers of its vectors lie."""
        vectors, old = self.weights.vectors(), self._store
        if old is not None and old.parameters is vectors["parameters"]:
            return old
        self._store = new = Store.of_vectors(vectors, old and old.bring_home())
        if old is not None:
            lengths = len(old.parameters), len(new.parameters)
            self._slots.update({rule: lengthened(bring_home(slots), *lengths) for rule, slots in self._slots.items()})
        self._manual.program, self._manual.backwards = None, 0
        self.network = replace(self.network, sizes=dict(self.weights.sizes))
        self._forget_programs()
        return new

    @property
    def has_weights(self) -> bool:
        """Whether the weights have been made yet."""
        return self.weights.made

    def new_seed(self, seed: int) -> None:
        """Of shuffles and dropout, and of the weights if none have been made yet."""
        self.seed = seed
        if not self.weights.made and self.weights.models < 2:
            self.weights.seed = seed

    @property
    def has_gradients(self) -> bool:
        """Whether the gradients mean anything."""
        return self._manual.backwards > 0

    def refresh(self) -> None:
        """Take notice of layers whose `trainable` was set after the model was built; weights stay where they are."""
        placed = self.network.placed.values()
        owner = {layer.name: layer for layer in self.network.layers}
        if any(p.trainable != (p.weight.trainable and owner[p.key.rsplit("/", 1)[0]].trainable) for p in placed):
            self.network = self.network.again()
            self._forget_programs()

    def fitted(self, request: Request, strategy: Strategy | None = None) -> Program:
        """The linked plan of a request, on as many threads as the strategy gives it; kept for the next time."""
        strategy = strategy or self.strategy
        with self.turn:
            if request.optimizer is not None:
                self.adopt(request.optimizer)
            key = strategy, self._key(request)
            found = self._programs.pop(key, None)
            if found is None:
                found = self._link(request, strategy)
                key = strategy, self._key(request)  # room for gradients or slots may have been made
            self._programs[key] = found
            while len(self._programs) > KEPT_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
            return found

    def _link(self, request: Request, strategy: Strategy) -> Program:
        runs = {name: getattr(strategy, name) for name in ("shards", "workers", "apart", "shortcuts")}
        request = replace(request, **runs)
        plan = make_plan(self.network, request)
        threads = strategy.threads_for(plan.estimate_us())
        if threads != request.threads:
            plan = make_plan(self.network, replace(request, threads=threads))
        self._make_room(plan)
        program = self._executor((strategy, threads)).open(plan, self._ready())
        program.runs_on = (strategy, threads)
        return program

    def targets(self, aims: tuple[Aim, ...]) -> tuple[Targets | None, ...]:
        """What targets must look like, output by output. Raises ShapeError where loss or metrics do not fit the model."""
        key = text(aims)
        if key not in self._targets:
            self._targets[key] = make_plan(self.network, Request("evaluate", 1, aims=aims)).targets
        return self._targets[key]

    def _key(self, request: Request) -> tuple:
        """Everything a plan depends on; the learning rate is not among it."""
        shape = (request.purpose, request.batch, request.data, request.dtype, request.weighted, rule_key(request.optimizer))
        return (*shape, text(request.loss), text(request.metrics), text(request.aims), self._trainable())

    def _make_room(self, plan: Plan) -> None:
        request, store, changed = plan.request, self._ready(), False
        if request.purpose in ("train", "manual", "update") and not len(store.gradients):
            store.need_gradients()
            changed = True
        if request.optimizer is not None and len(store.slots) != plan.slot_size:
            store.need_slots(plan.slot_size, request.optimizer.starts())
            changed = True
        if changed:
            self._forget_programs()

    def adopt(self, optimizer: Optimizer) -> None:
        """The store's slots are those of this optimizer from now on; another's are kept for its return.

        Raises:
            StateError: the optimizer belongs to another model.
        """
        optimizer.bind(self)
        if optimizer is self._optimizer:
            return
        store = self._store
        if store is not None:
            if self._optimizer is not None and len(store.slots):
                self._slots[self._optimizer] = store.slots
            store.slots = self._slots.pop(optimizer, aligned_zeros(0, self.dtype))
        self._optimizer = optimizer
        self._forget_programs()

    def _forget_programs(self) -> None:
        """Their tables hold addresses of vectors that have been made anew."""
        self._programs.clear()
        self._made += 1

    def _executor(self, runs_on: tuple[Strategy, int]) -> Executor:
        found = self._executors.get(runs_on)
        if found is None:
            found = self._executors[runs_on] = runs_on[0].open(runs_on[1])
        return found

    def start(self, program: Program, feed: Feed) -> None:
        """Connect a feed to a program."""
        if self.recorder is not None:
            self.recorder.attach(program)
        with self.turn:
            self._executor(program.runs_on).start(program, feed)

    def run(self, program: Program, first: int, last: int, *phases: str) -> None:
        """Batches first..last of the feed; all phases, or those named."""
        with self.turn:  # another Python thread may close executors in its own
            executor = self._executor(program.runs_on)
            try:
                executor.run(program, first, last, program.span(phases))
            finally:  # Ctrl-C and lost workers are heard when weights have changed
                self.weights.version += program.plan.request.purpose not in ("evaluate", "predict")
                self.weights.fetch = executor.fetch or self.weights.fetch

    def infer(self, program: Program, first: int, last: int) -> None:
        """All phases of batches first..last, in inference."""
        executor = self._executor(program.runs_on)
        executor.infer(program, first, last, self.weights.version)
        self.weights.fetch = executor.fetch or self.weights.fetch

    def close(self) -> None:
        """End threads and processes; the next run starts them again."""
        with self.turn:
            if any(executor.fetch is not None for executor in self._executors.values()):
                self._forget_programs()  # they lie with the processes
            close_all(self._executors)

    # -- the manual loop ------------------------------------------------------------------------

    @property
    def forward_ticket(self) -> int:
        """Number of the last forward pass; keys its dropout."""
        return self._manual.ticket

    def rewind(self) -> None:
        """The next forward pass draws the random numbers of the first."""
        self._manual.ticket = 0

    def forward(self, x, training: bool) -> Any:
        """One batch through the model.

        Args:
            x: (rows, *input shape); of several inputs a list, or a dict by name.
            training: with dropout and batch statistics, ready for a loss and `backward`.
        Returns:
            the output (rows, *output shape), an array that remembers the pass; of several outputs a list.
        """
        arrays = as_many_inputs(x, self.network, "model(x)", self.dtype)
        manual, rows = self._manual, len(arrays[0])
        manual.ticket, manual.rows = manual.ticket + 1, rows
        if not training:
            manual.program = None
            return self._outputs(self.predict_batch(arrays), 0)
        self._run_forward(arrays)
        return self._outputs(self._shown(), manual.ticket)

    def _outputs(self, arrays: list[np.ndarray], ticket: int) -> Any:
        if len(arrays) == 1:
            return Output.of(arrays[0], self, ticket)
        return [Output.of(array, self, SEVERAL if ticket else 0) for array in arrays]

    def _run_forward(self, arrays: tuple[np.ndarray, ...]) -> None:
        manual = self._manual
        manual.program, old = self._manual_program(arrays), manual.program
        if manual.feed is None or manual.program is not old:
            manual.feed = Feed(arrays, len(arrays[0]), sums=np.zeros(manual.program.plan.sums), seed=self.seed)
        manual.feed.x, manual.feed.total, manual.feed.epoch = arrays, len(arrays[0]), manual.ticket
        self.start(manual.program, manual.feed)
        self.run(manual.program, 0, 1, "input", "forward")

    def _manual_program(self, arrays: tuple[np.ndarray, ...]) -> Program:
        """The program of the last pass where it still fits, else a new one; batches may shrink but not grow."""
        manual, capacity, data, rows = self._manual, 0, kinds(arrays), len(arrays[0])
        old, loss = manual.program, manual.loss or guess_loss(self.network)
        if old is not None and manual.key == self._trainable():
            request, capacity = old.plan.request, old.plan.request.batch
            if rows <= capacity and request.data == data and request.loss is loss:
                return old
        manual.key = self._trainable()
        request = Request("manual", max(rows, capacity), data, self.dtype, loss=loss, weighted=loss is not None)
        return self.fitted(request)

    def _trainable(self) -> tuple:
        """What an open program depends on besides its request."""
        self._ready()  # forgets the programs where the weights have moved
        flags = tuple(layer.trainable for layer in self.network.layers)
        if flags != self._flags:
            self._flags = flags
            self.refresh()
        return (self._made, library.user_generation, *flags)

    def _shown(self) -> list[np.ndarray]:
        program, rows = self._manual.program, self._manual.rows
        if program is None:
            raise StateError("session: no forward pass to show")
        return [program.view(buffer, rows).reshape(rows, *buffer.shape).copy() for buffer in program.plan.shown]

    def predict_batch(self, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """The outputs of a batch in inference mode."""
        rows = len(arrays[0])
        out = self.room(rows)
        with self.turn:
            program = self.fitted(Request("predict", rows, kinds(arrays), self.dtype))
            self.start(program, Feed(arrays, rows, out=out))
            self.infer(program, 0, 1)
        return list(out)

    def room(self, rows: int) -> tuple[np.ndarray, ...]:
        """Arrays for the outputs of so many rows."""
        return tuple(np.empty((rows, *shape), self.dtype) for shape in self.network.output_shapes)

    def loss(self, loss: Loss, ticket: int, target, sample_weight) -> float:
        """The loss of the last forward pass."""
        manual = self._manual
        if ticket != manual.ticket or manual.program is None or manual.feed is None:
            raise StateError(
                "loss: expected the output of the model's last forward pass in training mode, received an older one; "
                "call the loss before the next model(x), and net.train() after net.eval()"
            )
        if manual.loss is None or text(manual.loss) != text(loss):
            state = self.store.state.copy()  # moving averages must not move twice for one batch
            manual.loss, x = loss, manual.feed.inputs
            if text(loss) != text(manual.program.plan.request.loss):
                self._run_forward(x)
                self.store.state[:] = state
        return self._run_loss(loss, target, sample_weight)

    def _run_loss(self, loss: Loss, target, sample_weight) -> float:
        manual = self._manual
        program, feed = manual.program, manual.feed
        targets: Targets | None = program.plan.targets[0] if program is not None and program.plan.targets else None
        if program is None or feed is None or targets is None:
            raise StateError("session: no forward pass to measure")
        feed.y = as_targets(target, manual.rows, targets, loss, "loss: target", self.dtype)
        if sample_weight is not None:
            feed.weight = as_weights(sample_weight, manual.rows, "loss: sample_weight", self.dtype)
        else:
            feed.weight = ones(manual.rows, self.dtype)
        feed.sums[:] = 0
        self.start(program, feed)
        self.run(program, 0, 1, "loss")
        manual.measured = True
        value = float(feed.losses[0])
        if not math.isfinite(value) and not manual.diverged:
            manual.diverge(value, first_non_finite(program))
        return value

    def backward(self, ticket: int) -> None:
        """Gradients of the last loss, added to those there are since `zero_gradients`."""
        manual = self._manual
        if ticket != manual.ticket or not len(self._ready().gradients) or manual.program is None or manual.feed is None:
            raise StateError("backward: expected the loss of the model's last forward pass, received an older one")
        if not any(p.trainable for p in self.network.placed.values()):
            raise StateError("backward: the model has no trainable weights")
        if not manual.measured:
            raise StateError("backward: called twice for one loss; call the loss again, its gradient has been used up")
        manual.measured = False
        manual.feed.accumulate = manual.backwards > 0
        manual.program.resume(manual.feed.accumulate)
        self.run(manual.program, 0, 1, "backward")
        manual.backwards += 1

    def zero_gradients(self) -> None:
        """The next backward pass starts from zero."""
        self._manual.backwards = self._manual.steps_since_zero = 0

    def update(self, optimizer: Optimizer) -> None:
        """One step of an optimizer on the gradients there are."""
        manual = self._manual
        if not self.has_gradients or not len(self._ready().gradients):
            raise StateError("step: no gradients; call loss.backward() after zero_grad()")
        manual.count_step()
        program, rates = self._updater(optimizer)
        rates[:] = optimizer.rates(np.array([optimizer.batches]))
        self.run(program, 0, 1)
        optimizer.batches += 1

    def _updater(self, optimizer: Optimizer) -> tuple[Program, np.ndarray]:
        """The program of an optimizer's step, and the rates (1, 4) that it reads."""
        self.adopt(optimizer)
        manual, key = self._manual, (rule_key(optimizer), self._trainable())
        if manual.updater is None or manual.updater[0] != key:
            program = self.fitted(Request("update", 1, "float32", self.dtype, optimizer=optimizer))
            rates = np.zeros((1, 4))
            self.start(program, Feed(rates, 1, rates=rates))
            manual.updater = ((key[0], self._trainable()), program, rates)
        return manual.updater[1:]
