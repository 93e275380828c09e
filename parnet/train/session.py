"""The session: one model's weights, its plans, and the verbs forward, backward, update. Stage: train.

`fit`, `evaluate` and `predict` run whole stretches of batches through it; the manual loop drives it verb by verb. Both
use the same plans, kernels and weights. Must not know: callbacks, progress, files.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ParnetWarning, StateError
from ..executors.base import Executor, Feed
from ..executors.link import Program
from ..executors.memory import Store, aligned_zeros
from ..losses import Loss
from ..optimizers import Optimizer
from ..plan.objective import Targets
from ..plan.plan import Network, Plan, Request, make_plan
from ..strategy import Auto, Strategy
from .data import as_many_inputs, as_targets, as_weights, kinds
from .values import SEVERAL, Output
from .weights import Weights

#: linked plans kept for the next call of the same kind
KEPT_PROGRAMS = 12


@dataclass
class _Manual:
    """Where a manual loop stands.

    Attributes:
        ticket: number of the last forward pass.
        rows: of its batch.
        program: it ran on; None after a pass in inference mode.
        feed: what it read.
        loss: that the loop used last, so that the next forward pass uses its plan.
        steps_since_zero: updates since `zero_grad`.
        backwards: gradients that the next one is added to.
        measured: the loss's gradient is there, and no backward pass has used it up.
        key: what `program` depends on besides its request.
        updater: the program of the last update, behind what it depends on.
    """

    ticket: int = 0
    rows: int = 0
    program: Program | None = None
    feed: Feed | None = None
    loss: Loss | None = None
    steps_since_zero: int = 0
    backwards: int = 0
    measured: bool = False
    key: tuple = ()
    updater: tuple[tuple, Program] | None = None
    warned: bool = False


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
        self._programs: dict[tuple, Program] = {}
        self._executors: dict[int, Executor] = {}
        self._made = 0
        self._flags = tuple(layer.trainable for layer in network.layers)
        self._threads: dict[tuple, int] = {}
        self._manual = _Manual()
        weakref.finalize(self, _close_all, self._executors)

    # -- weights --------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The weights, made and initialised at the first use, with this model's gradients and slots."""
        vectors = self.weights.vectors()
        if self._store is None or self._store.parameters is not vectors["parameters"]:
            self._store = self._new_store(vectors)
        return self._store

    def _new_store(self, vectors: dict[str, np.ndarray]) -> Store:
        """The store on vectors that have been made, or lengthened for another model's layers."""
        old, slots = self._store, np.zeros(0, self.dtype)
        if old is not None:
            before, after = len(old.parameters), len(vectors["parameters"])
            count = len(old.slots) // before if before else 0
            slots = aligned_zeros(count * after, self.dtype)
            slots.reshape(count, after)[:, :before] = old.slots.reshape(count, before)
            self._manual.backwards = 0
        self.network = replace(self.network, sizes=dict(self.weights.sizes))
        self._forget_programs()
        return Store(self.dtype, vectors["parameters"], np.zeros(0, self.dtype), vectors["state"], slots)

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

    # -- plans ----------------------------------------------------------------------------------

    def program(self, request: Request) -> Program:
        """The linked plan of a request; kept for the next time."""
        store = self.store
        key = self._key(request)
        found = self._programs.pop(key, None)
        if found is None:
            plan = make_plan(self.network, request)
            self._make_room(plan)
            found = self._executor(request.threads).open(plan, store)
        self._programs[key] = found
        while len(self._programs) > KEPT_PROGRAMS:
            self._programs.pop(next(iter(self._programs)))
        return found

    def _key(self, request: Request) -> tuple:
        """Everything a plan depends on; the learning rate is not among it."""
        trainable = self._trainable()
        shape = (request.purpose, request.batch, request.data, request.dtype, request.threads, request.weighted)
        return (
            *shape,
            _rule(request.optimizer),
            _text(request.loss),
            _text(request.metrics),
            _text(request.aims),
            trainable,
        )

    def _make_room(self, plan: Plan) -> None:
        request = plan.request
        changed = False
        if request.purpose in ("train", "manual", "update") and not len(self.store.gradients):
            self.store.need_gradients()
            changed = True
        if request.optimizer is not None and len(self.store.slots) != plan.slot_size:
            start = getattr(request.optimizer, "initial_accumulator_value", 0.0)
            self.store.need_slots(plan.slot_size, start)
            changed = True
        if changed:
            self._forget_programs()

    def reset_slots(self) -> None:
        """Forget what an optimizer kept."""
        if self._store is not None:
            self._store.need_slots(0)
        self._forget_programs()

    def _forget_programs(self) -> None:
        """Their tables hold addresses of vectors that have been made anew."""
        self._programs.clear()
        self._made += 1

    def fitted(self, request: Request, strategy: Strategy | None = None) -> Program:
        """The program of a request on as many threads as the strategy gives it."""
        strategy = strategy or self.strategy
        key = (strategy, self._key(request))
        threads = self._threads.get(key)
        if threads is None:
            plan = make_plan(self.network, request)
            threads = self._threads[key] = strategy.threads_for(plan.estimate_us())
        return self.program(replace(request, threads=threads))

    # -- running --------------------------------------------------------------------------------

    def _executor(self, threads: int) -> Executor:
        if threads not in self._executors:
            self._executors[threads] = self.strategy.open(threads)
        return self._executors[threads]

    def start(self, program: Program, feed: Feed) -> None:
        """Connect a feed to a program."""
        self._executor(program.plan.request.threads).start(program, feed)

    def run(self, program: Program, first: int, last: int, *phases: str) -> None:
        """Batches first..last of the feed; all phases, or those named."""
        self._executor(program.plan.request.threads).run(program, first, last, program.span(phases))

    def close(self) -> None:
        """End the threads; the next run starts them again."""
        _close_all(self._executors)

    # -- the manual loop ------------------------------------------------------------------------

    def attach(self, optimizer: Optimizer) -> None:
        """An optimizer was made with this model's parameters."""
        self.reset_slots()

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
        manual.program = self._manual_program(arrays)
        sums = np.zeros(manual.program.plan.sums)
        manual.feed = Feed(arrays, len(arrays[0]), sums=sums, epoch=manual.ticket, seed=self.seed)
        self.start(manual.program, manual.feed)
        self.run(manual.program, 0, 1, "input", "forward")

    def _manual_program(self, arrays: tuple[np.ndarray, ...]) -> Program:
        """The program of the last pass where it still fits, else a new one; batches may shrink but not grow."""
        manual, capacity, data, rows = self._manual, 0, kinds(arrays), len(arrays[0])
        old = manual.program
        loss = None if len(self.network.outputs) > 1 else manual.loss or _guess(self.network)
        if old is not None and manual.key == self._trainable():
            request = old.plan.request
            capacity = request.batch
            if rows <= capacity and request.data == data and request.loss is loss:
                return old
        manual.key = self._trainable()
        request = Request("manual", max(rows, capacity), data, self.dtype, loss=loss, weighted=loss is not None)
        return self.fitted(request)

    def _trainable(self) -> tuple:
        """What an open program depends on besides its request."""
        flags = tuple(layer.trainable for layer in self.network.layers)
        if flags != self._flags:
            self._flags = flags
            self.refresh()
        return (self._made, *flags)

    def _shown(self) -> list[np.ndarray]:
        program, rows = self._manual.program, self._manual.rows
        if program is None:
            raise StateError("session: no forward pass to show")
        return [program.view(buffer, rows).reshape(rows, *buffer.shape).copy() for buffer in program.plan.shown]

    def predict_batch(self, arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """The outputs of a batch in inference mode."""
        rows = len(arrays[0])
        program = self.fitted(Request("predict", rows, kinds(arrays), self.dtype))
        out = self.room(rows)
        self.start(program, Feed(arrays, rows, out=out))
        self.run(program, 0, 1)
        return list(out)

    def room(self, rows: int) -> tuple[np.ndarray, ...]:
        """Arrays for the outputs of so many rows."""
        return tuple(np.empty((rows, *shape), self.dtype) for shape in self.network.output_shapes)

    def loss(self, loss: Loss, ticket: int, target, sample_weight) -> float:
        """The loss of the last forward pass."""
        manual = self._manual
        if ticket == SEVERAL:
            raise StateError(
                f"loss: expected the output of a model of one output, received one of {len(self.network.outputs)}; "
                "train such a model by compile(loss=[...]) and fit or train_on_batch"
            )
        if ticket != manual.ticket or manual.program is None or manual.feed is None:
            raise StateError(
                "loss: expected the output of the model's last forward pass in training mode, received an older one; "
                "call the loss before the next model(x), and net.train() after net.eval()"
            )
        if manual.loss is None or _text(manual.loss) != _text(loss):
            state = self.store.state.copy()  # moving averages must not move twice for one batch
            manual.loss, x = loss, manual.feed.inputs
            if _text(loss) != _text(manual.program.plan.request.loss):
                self._run_forward(x)
                self.store.state[:] = state
        return self._run_loss(loss, target, sample_weight)

    def _run_loss(self, loss: Loss, target, sample_weight) -> float:
        manual = self._manual
        program, feed = manual.program, manual.feed
        targets: Targets | None = program.plan.targets[0] if program is not None and program.plan.targets else None
        if program is None or feed is None or targets is None:
            raise StateError("session: no forward pass to measure")
        y = as_targets(target, manual.rows, targets, loss, "loss: target", self.dtype)
        weight = np.ones(manual.rows) if sample_weight is None else sample_weight
        feed.weight = as_weights(weight, manual.rows, "loss: sample_weight", self.dtype)
        feed.y = y
        feed.sums[:] = 0
        self.start(program, feed)
        self.run(program, 0, 1, "loss")
        manual.measured = True
        return float(feed.losses[0])

    def backward(self, ticket: int) -> None:
        """Gradients of the last loss, added to those there are since `zero_gradients`."""
        manual = self._manual
        if ticket != manual.ticket or manual.program is None or manual.feed is None:
            raise StateError("backward: expected the loss of the model's last forward pass, received an older one")
        if not any(p.trainable for p in self.network.placed.values()):
            raise StateError("backward: the model has no trainable weights")
        if not manual.measured:
            raise StateError("backward: called twice for one loss; call the loss again, its gradient has been used up")
        manual.measured = False
        manual.feed.accumulate = manual.backwards > 0
        self.start(manual.program, manual.feed)
        self.run(manual.program, 0, 1, "backward")
        manual.backwards += 1

    def zero_gradients(self) -> None:
        """The next backward pass starts from zero."""
        self._manual.backwards = 0
        self._manual.steps_since_zero = 0

    def update(self, optimizer: Optimizer) -> None:
        """One step of an optimizer on the gradients there are."""
        manual = self._manual
        if not self.has_gradients:
            raise StateError("step: no gradients; call loss.backward() after zero_grad()")
        manual.steps_since_zero += 1
        if manual.steps_since_zero == 2 and not manual.warned:
            manual.warned = True
            warnings.warn(
                "step: called again without zero_grad() since the last one, so old gradients count again; "
                "call optimizer.zero_grad() before each backward()",
                ParnetWarning,
                stacklevel=4,
            )
        program = self._updater(optimizer)
        rates = optimizer.rates(np.array([optimizer.iterations]))
        self.start(program, Feed(rates, 1, rates=rates))
        self.run(program, 0, 1)
        optimizer.iterations += 1

    def _updater(self, optimizer: Optimizer) -> Program:
        """The program of an optimizer's step."""
        key = (_rule(optimizer), self._trainable())
        if self._manual.updater is None or self._manual.updater[0] != key:
            program = self.fitted(Request("update", 1, "float32", self.dtype, optimizer=optimizer))
            self._manual.updater = ((_rule(optimizer), self._trainable()), program)
        return self._manual.updater[1]


@lru_cache(maxsize=64)
def _text(thing) -> str:
    """A loss or metrics as a key; they do not change once made."""
    return repr(thing)


def _rule(optimizer: Optimizer | None) -> tuple:
    """An optimizer as a key: its kind and numbers, not its rate."""
    if optimizer is None:
        return ()
    clips = (optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue)
    return (type(optimizer).__name__, optimizer.kernel, optimizer.numbers(), clips)


def _close_all(executors: dict[int, Executor]) -> None:
    for executor in executors.values():
        executor.close()
    executors.clear()


def _guess(network: Network) -> Loss:
    """The loss that a first forward pass is planned for, before the loop has shown its own."""
    from .. import losses

    classes = network.activation(0) == "softmax" and len(network.output_shapes[0]) == 1
    return losses.get("sparse_categorical_crossentropy" if classes else "mse")
