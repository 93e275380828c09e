"""What every layer promises, checked for every layer in the registry on its own examples."""

import inspect
import json

import numpy as np
import pytest
from kernelbench import bits, blank
from nets import Parts, alone, around, batch, digest, ending, examples, shapes_of, sharing
from stepper import Stepper, open_program

import parnet as pn
from parnet import layers as L
from parnet import optimizers
from parnet.executors.base import Feed
from parnet.executors.null import NullExecutor
from parnet.executors.threads import ThreadsExecutor
from parnet.layers.base import Layer, count, registry
from parnet.losses import MeanSquaredError
from parnet.plan.plan import Request, make_plan
from parnet.regularizers import Regularizer

EXAMPLES = examples()
every_layer = pytest.mark.parametrize("layer, shape", [e[1:] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
GUARD = 64


@pytest.fixture(autouse=True)
def cut_small_steps(monkeypatch):
    """The cost model gives small steps to one part; here every step is cut as far as it can be."""
    monkeypatch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)


def trained(layer, shape, strategy, dtype="float32", optimizer="sgd", make=around):
    """Three updates, the last of a smaller batch."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(40, 6)).astype(dtype), rng.normal(size=(40, 3)).astype(dtype)
    model = make(layer, shape, dtype=dtype)
    model.compile(optimizer, "mse")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, strategy=strategy)
    assert model.optimizer.iterations == 3
    return model


def gradients(model):
    return {p.name: p.grad for p in model.weights}


def test_every_layer_is_exported_and_has_examples_of_its_own_kind():
    classes = {n: c for n, c in registry.classes.items() if c.__module__.startswith("parnet.")}
    assert classes and set(classes) <= set(L.__all__)
    for name, cls in classes.items():
        found = cls.examples()
        assert found and all(type(layer) is cls for layer, _ in found), name


@every_dtype
@every_layer
def test_outputs_have_the_stated_shape_and_dtype(layer, shape, dtype, rng):
    model = alone(layer, shape, dtype)
    for rows in (1, 9):
        y = model.predict(batch(rng, layer, shape, rows, dtype), verbose=0)
        assert y.shape == (rows, *layer.output_shape(shape)) and y.dtype == dtype and np.isfinite(y).all()
    assert model(batch(rng, layer, shape, 4, dtype)).shape == (4, *layer.output_shape(shape))
    assert model.output_shape == layer.output_shape(shape)


@every_layer
def test_weights_have_the_declared_shapes_and_any_values_can_be_set(layer, shape, rng):
    model = alone(layer, shape)
    declared = layer.weights(shape)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in declared]
    values = [rng.normal(size=w.shape).astype(np.float32) for w in declared]
    model.set_weights(values)
    for found, value in zip(model.get_weights(), values, strict=True):
        np.testing.assert_array_equal(found, value)
    assert model.count_params() == sum(v.size for v in values)


@every_layer
def test_gradients_match_finite_differences(layer, shape, rng):
    """check_gradients raises at a relative error of 1e-6, its default."""
    x, y = rng.normal(size=(7, 6)), rng.normal(size=(7, 3))
    inner = pn.check_gradients(around(layer, shape, dtype="float64"), "mse", x, y, entries=25)
    assert inner.entries >= 6 * min(4, min(count(one) for one in shapes_of(layer, shape)))
    last = ending(layer, shape, dtype="float64")
    target = rng.normal(size=(7, *last.output_shape))
    pn.check_gradients(last, "mse", x, target, entries=25)


@every_layer
def test_configuration_survives_json_and_makes_the_same_layer(layer, shape, rng):
    for one in (layer, alone(layer, shape)._layers[-1]):
        written = json.dumps(registry.dump(one))
        again = registry.load(json.loads(written))
        assert type(again) is type(layer) and json.dumps(registry.dump(again)) == written
    first, second = alone(layer, shape), alone(registry.load(json.loads(json.dumps(registry.dump(layer)))), shape)
    x = batch(rng, layer, shape, 5)
    assert np.array_equal(bits(first.predict(x, verbose=0)), bits(second.predict(x, verbose=0)))


@every_layer
def test_every_argument_of_the_constructor_is_in_the_configuration(layer, shape):
    wanted = set(inspect.signature(type(layer).__init__).parameters) - {"self", "base", "kwargs"}
    second_names = {"alpha"} if isinstance(layer, L.LeakyReLU) else set()
    assert wanted - {"name", "trainable", "input_shape", *second_names} <= set(layer.get_config())


@every_dtype
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@every_layer
def test_training_gives_the_same_bits_on_any_number_of_threads(layer, shape, optimizer, dtype):
    serial = digest(trained(layer, shape, "serial", dtype, optimizer))
    for n in (2, 3):
        assert digest(trained(layer, shape, Parts(n), dtype, optimizer)) == serial, f"{n} threads"


@every_layer
def test_a_layer_called_several_times_gets_the_sum_of_its_gradients(layer, shape, rng):
    """Its inputs are read by two calls, and the gradient of their sum belongs to three: nobody may write over either."""
    x, y = rng.normal(size=(7, 6)), rng.normal(size=(7, 3))
    pn.check_gradients(sharing(layer, shape, dtype="float64"), "mse", x, y, entries=25)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@every_layer
def test_a_layer_called_several_times_gives_the_same_bits_on_any_number_of_threads(layer, shape, optimizer):
    serial = digest(trained(layer, shape, "serial", optimizer=optimizer, make=sharing))
    for n in (2, 4):
        threads = trained(layer, shape, Parts(n), optimizer=optimizer, make=sharing)
        assert digest(threads) == serial, f"{n} threads"


@every_layer
def test_a_pool_of_more_threads_than_cores_gives_the_serial_bits(layer, shape, rng):
    model = around(layer, shape)
    x, y = rng.normal(size=(24, 6)).astype(np.float32), rng.normal(size=(24, 3)).astype(np.float32)
    results = []
    for threads in (1, 3):
        request = Request("train", 8, threads=threads, loss=MeanSquaredError(), optimizer=optimizers.SGD(0.1))
        program = open_program(model.session, make_plan(model.session.network, request))
        feed = Feed(x, 24, y=y, rates=np.full((3, 4), 0.1), losses=np.zeros(3))
        with ThreadsExecutor(threads) as executor:
            executor.start(program, feed)
            executor.run(program, 0, 3)
        results.append((program.store.parameters.tobytes(), program.store.state.tobytes(), feed.losses.tobytes()))
    assert results[0] == results[1]


@every_dtype
@every_layer
def test_a_smaller_batch_gives_the_bits_it_gives_in_a_plan_of_its_own_size(layer, shape, dtype, rng):
    x, y = rng.normal(size=(13, 6)).astype(dtype), rng.normal(size=(13, 3)).astype(dtype)
    loss, results = MeanSquaredError(), []
    for first in (8, 5):  # the plan made for 8 rows serves 5 as well
        model = around(layer, shape, dtype=dtype)
        for rows in (x[:first], x[8:]):
            model.session.zero_gradients()
            model.session.rewind()
            loss(model(rows), y[: len(rows)]).backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        assert np.array_equal(bits(gradient), bits(results[1][name])), name
    model = around(layer, shape, dtype=dtype)
    split = model.predict(x, batch_size=8, verbose=0)[8:]
    assert np.array_equal(bits(split), bits(model.predict(x[8:], batch_size=5, verbose=0)))


def forward_kernels(model, purpose):
    request = Request(purpose, 8, loss=None if purpose == "predict" else MeanSquaredError())
    plan = make_plan(model.session.network, request)
    return [s.kernel for s in plan.steps if s.phase == "forward" and s.label not in ("output", "loss")]


@every_layer
def test_training_differs_from_inference_only_where_the_layer_declares_other_kernels(layer, shape, rng):
    model = around(layer, shape)
    x = rng.normal(size=(8, 6)).astype(np.float32)
    train, infer = np.array(model(x, training=True)), np.array(model(x, training=False))
    same = forward_kernels(model, "manual") == forward_kernels(model, "predict")
    assert np.array_equal(bits(train), bits(infer)) == same
    assert np.array_equal(bits(infer), bits(model.predict(x, verbose=0)))
    model.eval()
    assert np.array_equal(bits(np.array(model(x))), bits(infer))


CHANGING = [e for e in EXAMPLES if any(w.trainable for w in e[1].weights(e[2]))]
every_trainable_layer = pytest.mark.parametrize("layer, shape", [e[1:] for e in CHANGING], ids=[e[0] for e in CHANGING])


@every_trainable_layer
def test_a_frozen_layer_keeps_its_weights_and_hands_the_gradient_on(layer, shape, rng):
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(16, 3)).astype(np.float32)
    frozen = registry.load({"class": type(layer).__name__, "config": layer.get_config() | {"trainable": False}})
    model = around(frozen, shape)
    own, before = model.layers[2], model.layers[0]
    kept, moved = own.get_weights(), before.get_weights()
    model.compile("adam", "mse")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, strategy="serial")
    for old, new in zip(kept, own.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(moved[0], before.get_weights()[0])
    if not any(isinstance(w.regularizer, Regularizer) for w in layer.weights(shape)):
        # a penalty on frozen weights is in the loss and has no gradient, so that differences would show it
        pn.check_gradients(around(frozen, shape, dtype="float64"), "mse", x.astype(float), y.astype(float), entries=20)


def thaw_and_freeze(layer, shape, compile_again, flags):
    """The layer's trainable weights after each of some fits."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(16, 6)).astype(np.float32), rng.normal(size=(16, 3)).astype(np.float32)
    model, states = around(layer, shape), []
    own = model.layers[2]
    model.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
    for flag in flags:
        own.trainable = flag
        if compile_again:
            model.compile(model.optimizer, "mse")
        model.fit(x, y, batch_size=8, epochs=1, verbose=0, strategy="serial", shuffle=False)
        states.append(np.concatenate([w.numpy().reshape(-1) for w in model.weights if w.name.startswith(own.name)]))
    return states


@every_trainable_layer
def test_a_layer_can_be_frozen_and_thawed_by_compiling_again(layer, shape):
    if any(not w.trainable for w in layer.weights(shape)):
        layer = registry.load({"class": type(layer).__name__, "config": layer.get_config() | {"momentum": 1.0}})
    first, frozen, thawed = thaw_and_freeze(layer, shape, True, [True, False, True])
    np.testing.assert_array_equal(first, frozen)
    assert not np.array_equal(frozen, thawed)


@every_trainable_layer
def test_a_flag_set_without_compiling_again_freezes_the_layer_or_does_nothing(layer, shape):
    """Never in between: no update with the gradients of an earlier batch."""
    before, after = thaw_and_freeze(layer, shape, False, [True, False])
    _, trained_on = thaw_and_freeze(layer, shape, False, [True, True])
    assert np.array_equal(after, trained_on) or np.array_equal(after, before)


def plan_of(model, threads, optimizer, batch=19):
    request = Request("train", batch, threads=threads, loss=MeanSquaredError(), optimizer=optimizer)
    return make_plan(model.session.network, request)


def sealed(array):
    """The array within guard zones, as a view."""
    guard = blank(GUARD, array.dtype)
    return np.concatenate([guard, array.reshape(-1), guard])[GUARD:-GUARD].reshape(array.shape)


def intact(view):
    whole = view.base if view.base.ndim == 1 else view.base.base
    guards = np.concatenate([whole[:GUARD], whole[-GUARD:]])
    return np.array_equal(bits(guards), bits(blank(2 * GUARD, view.dtype)))


@pytest.mark.parametrize("threads", [1, 3])
@every_layer
def test_every_step_reads_and_writes_only_the_buffers_it_declares(layer, shape, threads, rng):
    """What a step does not declare is NaN while it runs: reading it would show, writing it shows."""
    model, rows = around(layer, shape), 19
    x, y = rng.normal(size=(rows, 6)).astype(np.float32), rng.normal(size=(rows, 3)).astype(np.float32)
    for optimizer in (optimizers.SGD(0.1), optimizers.Adam(clipnorm=0.5, clipvalue=0.1)):
        program = open_program(model.session, plan_of(model, threads, optimizer, rows))
        feed = Feed(x, rows, y=y, rates=np.full((1, 4), 0.01), sums=sealed(np.zeros(1)), losses=sealed(np.zeros(1)))
        stepper = Stepper(program, feed)
        for step in range(len(program.plan.steps)):
            _run_poisoned(stepper, step)
        assert intact(feed.sums) and intact(feed.losses)
        for region in ("parameters", "gradients", "slots", "state"):
            assert np.isfinite(stepper.memory()[region]).all()


def _run_poisoned(stepper, step):
    name = stepper.plan.steps[step].kernel
    before = {region: vector.copy() for region, vector in stepper.memory().items()}
    sums, losses = stepper.feed.sums.copy(), stepper.feed.losses.copy()
    declared, written = stepper.touched(step), stepper.touched(step, writes_only=True)
    for region, vector in stepper.memory().items():
        vector[~declared[region]] = blank(1, vector.dtype)[0]
    poisoned = {region: vector.copy() for region, vector in stepper.memory().items()}
    for part in range(stepper.parts):
        stepper.call(0, step, part)
    results = {}
    for region, vector in stepper.memory().items():
        changed = (bits(vector) != bits(poisoned[region])) & ~written[region]
        assert not changed.any(), f"{name} writes {region}[{np.flatnonzero(changed)[0]}], which it does not declare"
        results[region] = vector.copy()
        vector[:] = before[region]
    stepper.feed.sums[:], stepper.feed.losses[:] = sums, losses
    for part in range(stepper.parts):
        stepper.call(0, step, part)
    for region, vector in stepper.memory().items():
        where = written[region] & np.isfinite(vector)
        same = np.array_equal(bits(vector[where]), bits(results[region][where]))
        assert same, f"{name} reads what it does not declare: {region} depends on it"


def test_a_layer_of_ones_own_is_found_by_these_tests_only_inside_parnet():
    before = set(registry.classes)

    class Mine(Layer):
        """Declares nothing."""

    try:
        assert set(registry.classes) - before == {"Mine"}
        assert not any(label.startswith("Mine") for label, *_ in examples())
    finally:
        del registry.classes["Mine"], registry._aliases["mine"]


def test_the_null_executor_shows_what_would_run_and_computes_nothing(rng):
    model = around(L.Dense(5), (4,))
    plan = plan_of(model, 1, optimizers.SGD(0.1))
    program = open_program(model.session, plan)
    executor = NullExecutor()
    executor.start(program, Feed(rng.normal(size=(19, 6)).astype(np.float32), 19))
    executor.run(program, 0, 1)
    assert executor.calls == [("start",), ("run", 0, 1, (0, len(plan.steps)))]
    assert not program.arena.any()
