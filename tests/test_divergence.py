"""A loss that is not finite: what is reported, and what is left."""

import numpy as np
import pytest

import parnet as pn
from parnet import callbacks
from parnet import layers as L
from parnet.errors import NonFiniteLossError, ParnetWarning

ROWS = 32


def data():
    rng = np.random.default_rng(5)
    return rng.normal(size=(ROWS, 4)).astype(np.float32), rng.integers(0, 3, ROWS)


def classifier(rate, seed=1):
    layers = [L.Dense(6, activation="relu", input_shape=(4,)), L.Dense(3, activation="softmax")]
    model = pn.Sequential(layers, seed=seed)
    model.compile(pn.optimizers.SGD(rate), "sparse_categorical_crossentropy", ["accuracy"])
    return model


@pytest.mark.parametrize("strategy", ["serial", pn.strategy.Threads(None)])
def test_a_diverging_classifier_gets_a_layer_named(strategy):
    with pytest.raises(NonFiniteLossError, match=r"(the weights|that of|the outputs of) dense") as caught:
        classifier(1e30).fit(*data(), batch_size=8, epochs=5, verbose=0, strategy=strategy)
    assert "that of loss" not in str(caught.value)


def test_the_metrics_of_a_stopped_epoch_count_the_rows_that_were_measured():
    with pytest.warns(ParnetWarning, match="the loss became"):
        history = classifier(1e30).fit(*data(), batch_size=8, epochs=5, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert np.isnan(history.history["loss"][-1])
    assert all(0 <= value <= 1 for value in history.history["accuracy"])


def test_an_interrupt_counts_the_samples_of_the_batches_that_were_done(capsys, monkeypatch):
    model = classifier(0.1)
    x, y = data()
    run = type(model.session).run

    def stop(session, program, first, last, *phases):
        run(session, program, first, last, *phases)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model.session), "run", stop)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, verbose=2, epochs=2)
    assert model.optimizer.iterations == 4
    assert f"at {ROWS}/{ROWS} samples" in capsys.readouterr().out


def test_a_manual_loop_that_diverges_is_warned_once_with_step_and_layer():
    net, (x, y) = classifier(0.1), data()
    optimizer, loss_fn = pn.optimizers.SGD(net.parameters(), lr=1e30), pn.losses.SparseCategoricalCrossentropy()
    with pytest.warns(ParnetWarning) as caught:
        for _ in range(6):
            optimizer.zero_grad()
            loss_fn(net(x), y).backward()
            optimizer.step()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "in forward pass" in str(caught[0].message) and "dense" in str(caught[0].message)
