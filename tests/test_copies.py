"""A model that has been used is copied, pickled, and shares its optimizer with nobody."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, StateError

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(24, 5)).astype(np.float32), RNG.integers(0, 3, 24)
LOSS = "sparse_categorical_crossentropy"


def used(optimizer="adam"):
    layers = [L.Dense(19, activation="relu", input_shape=(5,)), L.BatchNormalization(), L.Dropout(0.2)]
    model = pn.Sequential([*layers, L.Dense(3, activation="softmax")], seed=2)
    model.compile(optimizer, LOSS, ["accuracy"])
    train(model, 0)
    model.predict(X)
    return model


def train(model, epoch):
    return model.fit(X, Y, batch_size=8, initial_epoch=epoch, epochs=epoch + 1, verbose=0).history["loss"]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"])
def test_a_copy_shares_no_memory_and_goes_on_with_the_same_bits(again):
    model = used()
    before, twin = model.get_weights(), again(model)
    for array in twin.get_weights():
        assert array.size
    twin.set_weights([np.zeros_like(w) for w in before])
    assert np.array_equal(twin.predict(X), np.full((24, 3), 1 / 3, np.float32)) and same(model.get_weights(), before)
    twin.set_weights(before)
    assert train(twin, 1) == train(model, 1) and same(twin.get_weights(), model.get_weights())
    assert not same(model.get_weights(), before)


def test_a_manual_loop_goes_on_in_a_copy_with_its_optimizer():
    def step(net, optimizer):
        optimizer.zero_grad()
        loss = pn.losses.SparseCategoricalCrossentropy()(net(X), Y)
        loss.backward()
        optimizer.step()
        return loss.item()

    net = used()
    optimizer = pn.optimizers.RMSprop(net.parameters(), lr=0.01)
    step(net, optimizer)
    twin, again = copy.deepcopy((net, optimizer))
    assert [step(net, optimizer) for _ in range(3)] == [step(twin, again) for _ in range(3)]
    assert train(net, 1) == train(twin, 1) and same(net.get_weights(), twin.get_weights())


def test_a_pickled_model_runs_in_another_process(tmp_path):
    model = used()
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import pickle, sys, numpy as np; p = sys.argv[1]; m = pickle.load(open(p + '/model.pickle', 'rb')); "
        "np.save(p + '/out.npy', m.predict(np.load(p + '/x.npy')))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True, timeout=250)
    assert np.array_equal(np.load(tmp_path / "out.npy"), model.predict(X))


def test_one_optimizer_serves_one_model():
    rule = pn.optimizers.Adam()
    model, other = used(rule), pn.Sequential([L.Dense(3, activation="softmax", input_shape=(5,))], seed=0)
    with pytest.raises(StateError, match=r"expected an optimizer of this model alone.*make a new Adam"):
        other.compile(rule, LOSS)
    fresh = pn.optimizers.Adam()
    first, second = (pn.Sequential([L.Dense(3, activation="softmax", input_shape=(5,))], seed=0) for _ in range(2))
    first.compile(fresh, LOSS)
    second.compile(fresh, LOSS)
    train(first, 0)
    with pytest.raises(StateError, match="expected an optimizer of this model alone"):
        train(second, 0)
    assert train(model, 1)


def test_another_optimizer_on_the_model_leaves_the_state_of_the_first():
    alone, visited = used(), used()
    weights = visited.get_weights()
    guest = pn.optimizers.SGD(visited.parameters(), lr=0.1, momentum=0.9)
    state = visited.session.store.state.copy()
    pn.losses.get(LOSS)(visited(X), Y).backward()
    guest.step()
    visited.set_weights(weights)
    visited.session.store.state[:] = state
    assert train(alone, 1) == train(visited, 1) and same(alone.get_weights(), visited.get_weights())


def test_a_list_of_all_parameters_is_as_good_as_parameters():
    net, twin = used(), used()
    for model, given in ((net, net.parameters()), (twin, list(twin.parameters()))):
        optimizer = pn.optimizers.SGD(given, lr=0.1)
        pn.losses.get(LOSS)(model(X), Y).backward()
        optimizer.step()
    assert same(net.get_weights(), twin.get_weights())
    with pytest.raises(HyperparameterError, match=r"expected all trainable weights of one model.*received dense/kernel;"):
        pn.optimizers.SGD(list(net.parameters())[:1], lr=0.1)


def test_a_layer_that_was_frozen_says_so_everywhere():
    model, lines = used(), []
    model.layers[0].trainable = False
    assert not model.layers[0].kernel.trainable and model.layers[-1].kernel.trainable
    model.layers[-1].trainable = False
    model.summary(lines.append)
    assert "Trainable params: 38\n" in lines[0]


def test_a_strategy_brings_its_own_executor():
    from parnet.executors.null import NullExecutor

    class Recorded(pn.strategy.Strategy):
        def open(self, threads):
            self.executor = NullExecutor(threads)
            return self.executor

    model, how = used(), Recorded()
    weights = model.get_weights()
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0, strategy=how)
    assert [call[0] for call in how.executor.calls].count("run") >= 1 and same(model.get_weights(), weights)


def test_metrics_may_be_one_object_or_none():
    model = used()
    model.compile("sgd", LOSS, None)
    assert model.metrics == ()
    model.compile("sgd", LOSS, pn.metrics.Accuracy())
    assert [m.name for m in model.metrics] == ["accuracy"]
