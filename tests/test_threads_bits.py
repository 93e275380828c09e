"""Threads never change a bit: equal SHA-256 of all weights, and equal results in every order that barriers allow."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernelbench import bits
from nets import Parts, digest, even, images, n1, n2, odd
from stepper import Stepper, in_step, last_first, one_by_one, open_program, shuffled

from parnet import losses, metrics, optimizers
from parnet.executors.base import Feed
from parnet.executors.serial import SerialExecutor
from parnet.executors.threads import ThreadsExecutor
from parnet.plan.plan import Request, make_plan

UPDATES = 20
BATCHES = (1, 7, 32, 33, 128)
SOME_BATCHES = (7, 33)  # where the network differs from one above by its optimizer alone

#: name -> (model, optimizer, loss)
NETWORKS = {
    "n1-sgd": (n1, lambda: optimizers.SGD(0.1), "sparse_categorical_crossentropy"),
    "n1-momentum": (n1, lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy"),
    "n2-adam": (n2, lambda: optimizers.Adam(clipnorm=0.5), "sparse_categorical_crossentropy"),
    "odd-adamw": (odd, lambda: optimizers.AdamW(0.01, global_clipnorm=0.5), "binary_crossentropy"),
    "even-sgd": (even, lambda: optimizers.SGD(0.1), "sparse_categorical_crossentropy"),
    "odd-rmsprop": (odd, lambda: optimizers.RMSprop(0.01, momentum=0.5, clipvalue=0.01), "mse"),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
ALL_BATCHES = ("n1-sgd", "n2-adam", "odd-adamw", "even-sgd")
RUNS = [(name, batch) for name in NETWORKS for batch in (BATCHES if name in ALL_BATCHES else SOME_BATCHES)]


def data(name, rows):
    rng = np.random.default_rng(11)
    if name.startswith("odd"):
        return rng.normal(size=(rows, 13)).astype(np.float32), rng.integers(0, 2, rows).astype(np.float32)
    if name.startswith("even"):
        return rng.normal(size=(rows, 96)).astype(np.float32), rng.integers(0, 96, rows)
    x, y = images(rng, rows)
    return (x.reshape(rows, 784) if name.startswith("n1") else x), y


def fitted(name, batch, strategy, dtype="float32"):
    """After UPDATES updates, the last of a smaller batch where that is possible."""
    make, optimizer, loss = NETWORKS[name]
    model = make(dtype=dtype)
    x, y = data(name, UPDATES * batch - batch // 3)
    model.compile(optimizer(), loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=batch, epochs=1, verbose=0, strategy=strategy)
    assert model.optimizer.iterations == UPDATES
    return model, history.history, model.predict(x[:50], batch_size=batch, strategy=strategy)


@pytest.mark.parametrize("name, batch", RUNS)
def test_weights_after_20_updates_have_the_same_sha256_on_1_to_4_threads(name, batch):
    """Three and four threads are more than many machines have cores."""
    serial, log, predicted = fitted(name, batch, "serial")
    for threads in (2, 3, 4):
        model, other, again = fitted(name, batch, Parts(threads))
        assert digest(model) == digest(serial), f"{threads} threads"
        assert {k: v for k, v in log.items()} == other
        assert np.array_equal(bits(again), bits(predicted))


@every_network
def test_steps_cut_as_far_as_they_can_be_keep_the_bits_too(name, monkeypatch):
    """The cost model leaves small steps whole; here it may not."""
    for dtype in ("float32", "float64"):
        serial, *_ = fitted(name, 33, "serial", dtype)
        with monkeypatch.context() as patch:
            patch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)
            for threads in (2, 3):
                assert digest(fitted(name, 33, Parts(threads), dtype)[0]) == digest(serial)


@every_network
def test_auto_and_threads_give_the_serial_bits(name):
    serial, *_ = fitted(name, 32, "serial")
    for strategy in ("auto", "threads"):
        assert digest(fitted(name, 32, strategy)[0]) == digest(serial)


@every_network
def test_padding_of_weights_and_gradients_stays_0(name):
    model, *_ = fitted(name, 33, Parts(3))
    store, network = model.session.store, model.session.network
    for region in ("parameters", "state"):
        real = np.zeros(len(store.region(region)), bool)
        for p in network.placed.values():
            if p.region == region:
                p.write(real, np.ones(p.weight.shape, bool))
        assert not store.region(region)[~real].any()
        if region == "parameters":
            for vector in (store.gradients, *store.slots.reshape(-1, len(real))):
                assert not vector.size or not vector[~real].any()


# -- every order that barriers allow ----------------------------------------------------------------------

ORDERS = {
    "one by one": one_by_one,
    "last first": last_first,
    "in step": in_step,
    "mixed": shuffled(1),
    "mixed too": shuffled(2),
}


def run_in_order(name, purpose, threads, order, batch=33):
    """Bytes of everything that a run leaves behind."""
    make, optimizer, loss = NETWORKS[name]
    model = make()
    x, y = data(name, 3 * batch - batch // 3)
    measured = purpose != "predict"
    rule = optimizer() if purpose == "train" else None
    chosen = (metrics.get("accuracy"), metrics.get("mse")) if loss == "mse" else (metrics.get("accuracy"),)
    request = Request(
        purpose,
        batch,
        x.dtype.name,
        threads=threads,
        loss=losses.get(loss) if measured else None,
        metrics=chosen if measured else (),
        optimizer=rule,
        weighted=measured,
    )
    plan = make_plan(model.session.network, request)
    program = open_program(model.session, plan)
    feed = Feed(
        x,
        len(x),
        y=y.reshape(len(x), 1).astype(np.float32),
        weight=np.linspace(0, 2, len(x)).astype(np.float32),
        order=np.random.default_rng(3).permutation(len(x)),
        rates=rule.rates(np.arange(3)) if rule else None,
        out=np.zeros((len(x), *plan.outputs[0].shape), np.float32),
        sums=np.zeros(plan.sums),
        losses=np.zeros(3),
        seed=9,
    )
    if order is None:
        executor = SerialExecutor()
        executor.start(program, feed)
        executor.run(program, 0, 3)
    else:
        Stepper(program, feed).run(order)
    store = program.store
    return [v.tobytes() for v in (store.parameters, store.state, store.slots, feed.sums, feed.losses, feed.out)]


@pytest.mark.parametrize("shred", [False, True], ids=["as planned", "cut as far as can be"])
@pytest.mark.parametrize("purpose", ["train", "evaluate", "predict"])
@every_network
def test_every_order_of_parts_that_the_barriers_allow_gives_the_serial_bits(name, purpose, shred, monkeypatch):
    """No luck is needed to see a race: the parts take turns as unfavourably as the barriers let them."""
    serial = run_in_order(name, purpose, 1, None)
    if shred:
        monkeypatch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)
    for threads in (2, 3, 4):
        for label, order in ORDERS.items():
            assert run_in_order(name, purpose, threads, order) == serial, f"{threads} threads, {label}"


def test_a_run_may_stop_at_any_batch_and_go_on(rng):
    """fit runs batches in stretches; where they end must not matter."""
    results = []
    for stretches in ([(0, 6)], [(0, 1), (1, 2), (2, 6)], [(0, 5), (5, 6)]):
        model = n1()
        x, y = data("n1", 6 * 32)
        request = Request(
            "train", 32, "uint8", threads=2, loss=losses.get("sparse_crossentropy"), optimizer=optimizers.SGD(0.1)
        )
        program = open_program(model.session, make_plan(model.session.network, request))
        feed = Feed(x, len(x), y=y.reshape(-1, 1).astype(np.float32), rates=np.full((6, 4), 0.1), losses=np.zeros(6))
        with ThreadsExecutor(2) as executor:
            executor.start(program, feed)
            for first, last in stretches:
                executor.run(program, first, last)
        results.append((program.store.parameters.tobytes(), feed.losses.tobytes()))
    assert results[0] == results[1] == results[2]


def test_a_pool_can_be_closed_twice_and_many_can_be_opened(rng):
    for _ in range(5):
        executor = ThreadsExecutor(4)
        executor.close()
        executor.close()


# -- several threads of Python --------------------------------------------------------------------


def compiled(seed=2):
    model = n1()
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy", seed=seed)
    return model


@pytest.mark.parametrize("strategy", ["serial", Parts(2)], ids=["serial", "threads"])
def test_python_threads_that_share_a_model_take_turns(strategy):
    """A program has room for one run: two at once gave each other's numbers, or wrote behind arrays."""
    (x, y), model = data("n1", 64), compiled()
    wanted, loss = compiled().predict(x, strategy="serial"), compiled().evaluate(x, y, verbose=0)

    def use(k):
        for _ in range(15):
            assert np.array_equal(bits(model.predict(x[k:], batch_size=8, strategy=strategy)), bits(wanted[k:]))
            assert np.array_equal(bits(model.predict_on_batch(x[k : k + 8])), bits(wanted[k : k + 8]))
            assert k or model.evaluate(x, y, verbose=0, strategy=strategy) == loss
        return True

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(use, range(3)))


def test_training_keeps_its_bits_while_another_python_thread_predicts():
    (x, y), alone, shared = data("n1", 64), compiled(), compiled()
    alone.fit(x, y, batch_size=8, epochs=10, verbose=0, strategy=Parts(2))
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(shared.fit, x, y, batch_size=8, epochs=10, verbose=0, strategy=Parts(2))
        while not fit.done():
            assert np.isfinite(shared.predict(x, batch_size=8, strategy=Parts(2))).all()
        fit.result()
    assert digest(shared) == digest(alone)
