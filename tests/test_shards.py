"""Virtual shards: the numbers of a whole batch, and the same bits whoever runs the shards."""

import numpy as np
import pytest
from nets import Split, digest, images, n1, n2, odd
from tolerance import close

import parnet as pn
from parnet import layers as L
from parnet.errors import HyperparameterError, NonFiniteLossError, ParnetWarning
from parnet.kernels.entries import rows_in
from parnet.strategy import Serial

#: what Adam makes of a gradient that is 0 but for rounding: a bias before batch normalisation
NOISE = 5e6
ROWS, BATCH = 97, 33  # the last batch has 31 rows: neither divides by any number of shards


def small_images(dtype="float32", seed=1, **norm):
    layers = [L.Reshape((28, 28, 1), input_shape=(28, 28)), L.Rescaling(1 / 255), L.Conv2D(3, 3, strides=2)]
    layers += [L.BatchNormalization(**norm), L.Activation("relu"), L.Flatten(), L.Dense(10, activation="softmax")]
    return pn.Sequential(layers, dtype=dtype, seed=seed)


#: name -> (model, optimizer, loss)
NETWORKS = {
    "n1-sgd": (n1, lambda: pn.optimizers.SGD(0.1), "sparse_categorical_crossentropy"),
    "n2-adam": (n2, lambda: pn.optimizers.Adam(clipnorm=0.5), "sparse_categorical_crossentropy"),
    "odd-adamw": (odd, lambda: pn.optimizers.AdamW(0.01, global_clipnorm=0.5), "mse"),
    "images": (small_images, lambda: pn.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy"),
    "odd-clipvalue": (odd, lambda: pn.optimizers.RMSprop(0.01, clipvalue=0.01), "binary_crossentropy"),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def data(name, rows=ROWS):
    rng = np.random.default_rng(11)
    if name.startswith("odd"):
        return rng.normal(size=(rows, 13)), rng.integers(0, 2, rows).astype(np.float32)
    x, y = images(rng, rows)
    return (x.reshape(rows, 784) / 255 if name.startswith("n1") else x), y


def fitted(name, strategy, dtype="float32", batch=BATCH, epochs=2, weighted=True):
    make, optimizer, loss = NETWORKS[name]
    model, (x, y) = make(dtype=dtype), data(name)
    model.compile(optimizer(), loss, metrics=["accuracy"])
    weight = np.linspace(0.5, 1.5, len(x)) if weighted else None
    history = model.fit(
        x, y, batch_size=batch, epochs=epochs, sample_weight=weight, validation_split=0.2, verbose=0, strategy=strategy
    )
    outcome = history.history, model.evaluate(x, y, batch_size=40, strategy=strategy)
    return model, outcome, model.predict(x, batch_size=40, strategy=strategy)


def test_shards_differ_by_one_row_at_most_and_hold_every_row_once():
    for rows in range(1, 200):
        for shards in (1, 2, 3, 5, 16, 64):
            sizes = [rows_in(rows, s, shards) for s in range(shards)]
            assert sum(sizes) == rows and max(sizes) - min(sizes) <= 1


@every_network
@pytest.mark.parametrize("shards", [2, 5, 64])
def test_shards_give_the_numbers_of_the_whole_batch(name, shards):
    """Sample weights, penalties, clipping, dropout, batch normalisation, uneven and empty shards; in float64."""
    whole, logs, predicted = fitted(name, "serial", "float64")
    cut, other_logs, other = fitted(name, Serial(shards), "float64")
    for one, two in zip(whole.get_weights(), cut.get_weights(), strict=True):
        close(two, one, "float64", NOISE, 1)
    close(other, predicted, "float64", NOISE, 1)
    for key, values in logs[0].items():
        close(other_logs[0][key], values, "float64", NOISE, 1)


@every_network
@pytest.mark.parametrize("shards", [2, 3])
def test_the_same_shards_give_the_same_bits_on_any_number_of_threads(name, shards):
    serial, logs, predicted = fitted(name, Serial(shards))
    for threads in (2, 3):
        model, others, again = fitted(name, Split(threads, shards))
        assert digest(model) == digest(serial), f"{threads} threads"
        assert others == logs and np.array_equal(again, predicted)


def test_one_shard_is_no_shard():
    assert digest(fitted("n2-adam", Serial(1))[0]) == digest(fitted("n2-adam", "serial")[0])


@pytest.mark.parametrize("name", ["n2-adam", "images"])
def test_a_manual_loop_in_shards_matches_that_of_whole_batches(name):
    make, _, _ = NETWORKS[name]
    models = []
    for strategy in (Serial(), Serial(3), Split(2, 3)):
        net, (x, y) = make(dtype="float64"), data(name)
        net.session.strategy = strategy
        optimizer, loss_fn = pn.optimizers.Adam(net.parameters(), lr=0.01), pn.losses.SparseCategoricalCrossentropy()
        shown = []
        for first in range(0, ROWS, BATCH):
            optimizer.zero_grad()
            for half in (slice(first, first + 20), slice(first + 20, first + BATCH)):  # gradients add up over two passes
                out = net(x[half])
                loss = loss_fn(out, y[half])
                shown += [np.asarray(out), loss.item()]
                loss.backward()
            optimizer.step()
        models.append((net, shown))
    for net, shown in models[1:]:
        for one, two in zip(models[0][0].get_weights(), net.get_weights(), strict=True):
            close(two, one, "float64", NOISE, 1)
        for one, two in zip(models[0][1], shown, strict=True):
            close(two, one, "float64", NOISE, 1)
    assert digest(models[1][0]) == digest(models[2][0])


@pytest.mark.filterwarnings("ignore:.*normalises each shard")
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_statistics_of_each_shard_alone_are_taken_where_they_are_asked_for(shape, rng):
    """With synchronized=False a batch of two equal shards is normalised as two batches; averages move once."""
    x = rng.normal(size=(8, *shape))
    x[4:] += 3
    y = rng.normal(size=(8, *shape))
    make = lambda: pn.Sequential(  # noqa: E731
        [L.BatchNormalization(synchronized=False, momentum=0.5, input_shape=shape)], dtype="float64", seed=1
    )
    both, halves = make(), [make(), make()]
    for model in (both, *halves):
        model.compile(pn.optimizers.SGD(0.1), "mse")
    both.fit(x, y, batch_size=8, shuffle=False, verbose=0, strategy=Serial(2))
    for k, model in enumerate(halves):
        model.fit(x[4 * k : 4 * k + 4], y[4 * k : 4 * k + 4], batch_size=4, shuffle=False, verbose=0, strategy="serial")
    means = [np.mean(pair, axis=0) for pair in zip(*(m.get_weights() for m in halves), strict=True)]
    for one, two in zip(both.get_weights(), means, strict=True):
        close(one, two, "float64", 100, 10)


def test_statistics_of_few_rows_are_warned_of_where_a_layer_takes_them():
    def fit(batch, strategy, **norm):
        net = pn.Sequential([L.Dense(3, input_shape=(4,)), L.BatchNormalization(name="n", **norm)], seed=1)
        net.compile("sgd", "mse")
        net.fit(np.ones((64, 4)), np.ones((64, 3)), batch_size=batch, verbose=0, strategy=strategy)

    with pytest.warns(
        ParnetWarning, match=r"n normalises each shard of 15 rows .* batch_size of at least 32, or synchronized"
    ):
        fit(31, Serial(2), synchronized=False)
    own_pace = pn.strategy.ParameterServer(2, mode="ssp", threads_per_worker=1, oversubscribe=True)
    with pytest.warns(ParnetWarning, match="or mode='sync'"):
        fit(16, own_pace)
    for batch, strategy, norm in (
        (32, Serial(2), {"synchronized": False}),
        (16, Serial(1), {"synchronized": False}),
        (16, Serial(2), {}),
        (16, Serial(2), {"synchronized": False, "trainable": False}),
    ):
        fit(batch, strategy, **norm)  # warnings are errors


def test_a_bad_loss_in_one_shard_leaves_the_weights_as_they_were():
    model, rng = pn.Sequential([L.Dense(3, input_shape=(4,)), L.BatchNormalization()], seed=1), np.random.default_rng(3)
    x, y = rng.normal(size=(66, 4)), rng.normal(size=(66, 3))
    y[59:] = 1e30  # in the last shard of the second batch
    model.compile("sgd", "mse")
    good = pn.Sequential([L.Dense(3, input_shape=(4,)), L.BatchNormalization()], seed=1)
    good.compile("sgd", "mse")
    good.fit(x[:33], y[:33], batch_size=33, shuffle=False, verbose=0, strategy=Serial(3))
    with pytest.raises(NonFiniteLossError, match="step 2"):
        model.fit(x, y, batch_size=33, shuffle=False, verbose=0, strategy=Serial(3))
    assert digest(model) == digest(good)


@pytest.mark.parametrize("shards", [0, -1, 65, 2.0, "2", True])
def test_a_number_of_shards_that_cannot_be_is_refused(shards):
    for make in (lambda: pn.strategy.Serial(shards), lambda: pn.strategy.Threads(1, shards)):
        with pytest.raises(HyperparameterError, match="from 1 to 64"):
            make()


def test_the_plan_of_shards_explains_what_comes_once_a_batch():
    from parnet.plan.plan import Request, make_plan

    model = n2()
    model.compile("adam", "sparse_categorical_crossentropy")
    request = Request("train", 33, optimizer=model.optimizer, aims=model.aims, shards=4)
    plan = make_plan(model.session.network, request)
    text = plan.explain()
    assert "once a batch" in text and "shards.fold" in text and "update.adam" in text.split("once a batch")[1]
    assert plan.request.batch == 9 and len(plan.meetings) == 4  # two layers, forward and backward
