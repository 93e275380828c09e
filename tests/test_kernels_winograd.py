"""Winograd's convolution: its kernels match plain formulas however they are cut, plans use it where they should, and nothing
is ever computed with weights of before."""

import itertools
from functools import partial

import naive_image as naive
import numpy as np
import pytest
from kernelbench import DTYPES, Case, bits, check
from nets import Parts, Split
from plan_checker import overlaps, places_of, races
from test_kernels_conv import EPSILON, Convolution, finished, flat

import parnet as pn
from parnet import layers as L
from parnet.executors.recording import Recorder
from parnet.executors.serial import SerialExecutor
from parnet.executors.threads import ThreadsExecutor
from parnet.kernels.conv import BIAS, NORM, OTHER, RELU
from parnet.kernels.step import LINE, PANELS, PIXELS, window_panel
from parnet.kernels.target import is_x86
from parnet.layers.winograd import scratch_words
from parnet.plan.layout import size_of
from parnet.plan.plan import Request, make_plan

TO_TILES = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # G of Lavin & Gray 2016
#: rows, height, width, channels, filters, padding
IMAGES = [
    (2, 6, 8, 16, 16, "same"),
    (1, 7, 5, 32, 48, "same"),
    (3, 9, 6, 48, 80, "valid"),
    (1, 3, 3, 16, 64, "valid"),
    (2, 1, 1, 16, 16, "same"),
    (1, 4, 13, 800, 32, "same"),
]
KINDS = [BIAS, 0, BIAS | RELU, NORM | OTHER, BIAS | NORM | OTHER | RELU]


def in_panels(matrix):
    """A matrix as its panels lie, one after another."""
    wide = window_panel(matrix.shape[1])
    return np.concatenate([matrix[:, j : j + wide].reshape(-1) for j in range(0, matrix.shape[1], wide)])


def transformed(w):
    """The 16 matrices of G w G', each in panels, with what lies between them."""
    matrices = np.einsum("pa,abcf,qb->pqcf", TO_TILES, w.astype(np.float64), TO_TILES).reshape(16, *w.shape[2:])
    return np.concatenate([np.concatenate([in_panels(m), np.zeros(LINE)]) for m in matrices])


def numbers(rng, dtype, image):
    rows, height, width, channels, filters, padding = image
    return Convolution(rng, dtype, (rows, height, width, channels, filters, 1, (3, 3), (1, 1), (1, 1), padding))


def weights(rng, dtype, image=IMAGES[1]):
    conv = numbers(rng, dtype, image)
    u = transformed(conv.w)
    arrays = {"w": conv.w, "u": np.zeros(len(u), dtype)}
    operands = ("w", "u", *conv.w.shape[2:])
    return Case("winograd.weights", 1, arrays, operands, {"u": (u, 9, 9.0)}, weights=("w",), window_weights=("w",))


def forward(rng, dtype, image=IMAGES[1], flags=BIAS, block=6, share=PIXELS):
    conv = numbers(rng, dtype, image)
    y, arrays = finished(rng, dtype, conv, flags)
    arrays["u"] = transformed(conv.w).astype(dtype)
    operands = (
        "x",
        "u",
        "y",
        "b",
        "other",
        flags,
        *conv.words(False),
        share,
        block,
        "gamma",
        "beta",
        "mean",
        "variance",
        EPSILON,
    )
    scratch = scratch_words(block, *conv.w.shape[2:])  # as a layer asks for it: the guards behind it must stay whole
    expected = {"y": (y, conv.sum_length, 40.0 * conv.sum_length)}
    return Case("winograd.forward", conv.rows, arrays, operands, expected, weights=("b",), scratch=scratch)


CASES = {"winograd.weights": weights, "winograd.forward": forward}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_kernels_match_their_formulas_however_they_are_cut(image, dtype, rng):
    check(weights(rng, dtype, image), dtype)
    for flags, block, share in zip(KINDS, itertools.cycle((6, 24)), itertools.cycle((PIXELS, PIXELS, PANELS))):
        check(forward(rng, dtype, image, flags, block, share), dtype)


def test_a_nan_among_the_pixels_stays_one(rng):
    case = forward(rng, "float32", IMAGES[0], BIAS | RELU)
    case.arrays["x"][0, :16] = np.nan
    seen = naive.convolution(case.arrays["x"].reshape(2, 6, 8, 16), np.ones((3, 3, 16, 16)), 0, (1, 1), (1, 1), "same", 1)
    y = case.expected["y"][0].reshape(seen.shape)
    y[0, :2, :2] = np.nan  # a tile is one sum of all that it sees
    case.expected["y"] = (flat(y), *case.expected["y"][1:])
    check(case, "float32")
    assert np.isnan(seen[0, :2, :2]).all()


# -- in models ------------------------------------------------------------------------------------


def net(seed=1, shape=(12, 13, 32), dtype="float32"):
    """Two convolutions that go by the transforms, one with a sum behind it, and one that does not."""
    x = pn.Input(shape)
    y = L.Conv2D(48, 3, padding="same", use_bias=False, name="first")(x)
    y = L.Activation("relu")(L.BatchNormalization(name="norm")(y))
    z = L.Conv2D(48, 3, padding="same", name="second")(y)
    z = L.Activation("relu")(L.Add()([z, y]))
    z = L.Conv2D(8, 3, strides=2, name="third")(z)
    return pn.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(z)), seed=seed, dtype=dtype)


def compiled(**how):
    model = net(**how)
    model.compile(pn.optimizers.SGD(0.1), "sparse_categorical_crossentropy", ["accuracy"], seed=3)
    return model


def data(rows=10):
    rng = np.random.default_rng(5)
    return rng.normal(size=(rows, 12, 13, 32)).astype("float32"), rng.integers(0, 3, rows)


def kernels(model, purpose, **more):
    plan = make_plan(model.session.network, Request(purpose, 4, loss=model.loss, optimizer=model.optimizer, **more))
    return [step.kernel for step in plan.steps]


def plainly(model, x, monkeypatch):
    """Predictions by the plain sums."""
    with monkeypatch.context() as patch:
        patch.setattr("parnet.layers.winograd.suits", lambda *window: False)
        other = net(dtype=model.dtype)
        other.set_weights(model.get_weights())
        return other.predict(x)


def test_inference_goes_by_the_transforms_and_training_by_plain_sums():
    model = compiled()
    assert kernels(model, "predict").count("winograd.forward") == 2
    assert kernels(model, "predict")[:2] == ["winograd.weights"] * 2
    assert not [name for name in kernels(model, "train") if name.startswith("winograd")]
    assert not [name for name in kernels(model, "predict", shortcuts=False) if name.startswith("winograd")]
    assert not pn.strategy.CUDA.shortcuts  # which has no such kernels


@pytest.mark.parametrize(
    "layer, shape",
    [
        (L.Conv2D(32, 3, strides=2), (40, 40, 32)),
        (L.Conv2D(32, 3, dilation_rate=2), (40, 40, 32)),
        (L.Conv2D(32, 3, groups=2), (40, 40, 32)),
        (L.Conv2D(32, (3, 2)), (40, 40, 32)),
        (L.Conv2D(40, 3), (40, 40, 32)),
        (L.Conv2D(32, 3), (40, 40, 3)),
        (L.Conv2D(32, 3), (7, 7, 32)),
    ],
    ids=str,
)
def test_other_windows_do_not(layer, shape):
    model = pn.Sequential([layer, L.Flatten()])
    model.build((None, *shape))
    plan = make_plan(model.session.network, Request("predict", 4))
    assert "conv.forward" in [step.kernel for step in plan.steps] and not plan.prepared


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_are_those_of_plain_sums_up_to_rounding(dtype, monkeypatch):
    x, _ = data()
    model = net(dtype=dtype)
    np.testing.assert_allclose(
        model.predict(x), plainly(model, x, monkeypatch), rtol=2e-5 if dtype == "float32" else 1e-13, atol=0
    )


def test_predictions_have_the_same_bits_for_any_threads_shards_and_batches():
    x, _ = data()
    model = net()
    whole = bits(model.predict(x, batch_size=10, strategy="serial"))
    for strategy in ("serial", Parts(2), Parts(3), pn.strategy.Serial(shards=3), Split(2, 3)):
        for size in (1, 3, 10):
            assert np.array_equal(bits(model.predict(x, batch_size=size, strategy=strategy)), whole), f"{strategy}, {size}"


def test_workers_give_the_same_bits():
    x, y = data()
    model, other = compiled(), compiled()
    server = pn.strategy.ParameterServer(workers=2, threads_per_worker=1)
    for one, strategy in ((model, pn.strategy.Serial(shards=2)), (other, server)):
        one.fit(x, y, epochs=1, batch_size=4, verbose=0, strategy=strategy, validation_data=(x + 1, y))
    assert np.array_equal(bits(other.predict(x, strategy=server)), bits(model.predict(x, strategy="serial")))
    other.session.close()


CHANGES = {
    "fit": lambda model, x, y: model.fit(x, y, epochs=1, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "set_weights": lambda model, x, y: model.set_weights([w + 1 for w in model.get_weights()]),
    "assign": lambda model, x, y: next(iter(model.parameters())).assign(np.ones((3, 3, 32, 48))),
    "step": lambda model, x, y: manual_step(model, x, y),
    "another model of its layers": lambda model, x, y: part(model).fit(x, x[:, :, :, :1].repeat(48, 3), verbose=0),
    "load_weights": lambda model, x, y: load(model),
}


def manual_step(model, x, y):
    model.train()
    loss = pn.losses.SparseCategoricalCrossentropy()(model(x), y)
    model.optimizer.zero_grad()
    loss.backward()
    model.optimizer.step()
    model.eval()


def part(model):
    other = pn.Model(model.inputs, model.get_layer("first").output)
    other.compile("sgd", "mse")
    return other


def load(model):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        net(seed=9).save_weights(Path(folder) / "w.parnet")
        model.load_weights(Path(folder) / "w.parnet")


@pytest.mark.parametrize("strategy", ["serial", Parts(2)], ids=["serial", "threads"])
@pytest.mark.parametrize("name", CHANGES)
def test_new_weights_are_transformed_anew(name, strategy, monkeypatch):
    x, y = data()
    model = compiled()
    before = model.predict(x, strategy=strategy)
    model.predict(x, strategy=strategy)
    CHANGES[name](model, x, y)
    after = model.predict(x, strategy=strategy)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, plainly(model, x, monkeypatch), rtol=1e-4)


@pytest.mark.parametrize("verb", ["fit", "train_on_batch"])
@pytest.mark.parametrize("strategy", ["serial", Parts(2)], ids=["serial", "threads"])
def test_weights_that_an_interrupted_update_has_changed_are_transformed_anew(verb, strategy, monkeypatch):
    """Ctrl-C is heard when the native loop has returned; behind a prediction nothing else tells of that stretch."""
    x, y = data()
    model = compiled()
    model.session.strategy = pn.strategy.get(strategy)
    update = partial(model.fit, verbose=0, strategy=strategy) if verb == "fit" else model.train_on_batch
    update(x, y)
    before = model.predict(x, strategy=strategy)
    executor = SerialExecutor if strategy == "serial" else ThreadsExecutor
    run = executor.run

    def interrupted(*job):
        run(*job)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(executor, "run", interrupted)
        update(x, y)
    after = model.predict(x, strategy=strategy)
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, plainly(model, x, monkeypatch), rtol=1e-4)


@pytest.mark.skipif(not is_x86(), reason="no cycle counter that programs may read")
def test_weights_are_transformed_once_while_they_stay(monkeypatch):
    """And in traces they take no time: they are part of no batch."""
    x, _ = data()
    model, runs, run = net(), [], SerialExecutor.run
    monkeypatch.setattr(SerialExecutor, "run", lambda self, *how: runs.append(how[1:]) or run(self, *how))
    recorder = model.session.recorder = Recorder()
    for _ in range(3):
        model.predict(x, batch_size=5, strategy="serial")
    tape, plan = recorder.tapes[0], recorder.programs[0].plan
    recorder.close()
    rest = (2, len(plan.steps))
    assert plan.prepared == 2 and runs == [(0, 1, (0, 2)), (0, 2, rest), (0, 2, rest), (0, 2, rest)]
    done = tape.part(0)
    took = done.ended - done.starts()
    assert done.done.tolist() == [len(plan.steps)] * 6 and done.batch.tolist() == [0, 1] * 3
    assert not took[:, :2].any() and (took[:, 2:] > 0).any(axis=1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 7])
def test_plans_have_no_races_and_what_was_prepared_is_never_overwritten(threads, batch):
    plan = make_plan(net().session.network, Request("predict", batch, threads=threads))
    where, place = places_of(plan, size_of)
    assert races(plan.steps, plan.slots, where) == [] and overlaps(plan.steps, place) == []
    made = {access.buffer.name for step in plan.steps[: plan.prepared] for access in step.accesses if access.writes}
    for name in made:
        first, last = plan.offsets[name], plan.offsets[name] + plan.buffers[name].width
        for other, place in plan.offsets.items():
            assert other == name or place >= last or place + plan.buffers[other].width <= first
    if threads > 1:
        assert plan.slots[plan.prepared - 1].barrier and plan.slots[-1].barrier


def test_few_tiles_and_large_matrices_are_shared_by_columns_for_the_same_bits():
    x = np.random.default_rng(2).normal(size=(3, 12, 12, 128)).astype("float32")
    layers = [L.Input((12, 12, 128)), L.Conv2D(128, 3, padding="same", activation="relu"), L.Conv2D(128, 3, padding="same")]
    model = pn.Sequential(layers, seed=2)
    shares = {}
    for threads, batch in ((1, 1), (2, 1), (3, 1), (2, 3)):
        plan = make_plan(model.session.network, Request("predict", batch, threads=threads))
        found = [
            (step, slot) for step, slot in zip(plan.steps, plan.slots, strict=True) if step.kernel == "winograd.forward"
        ]
        shares[threads, batch] = {step.share for step, _ in found}
        assert threads == 1 or all(slot.parts == threads for _, slot in found)
    assert shares == {(1, 1): {PIXELS}, (2, 1): {PANELS}, (3, 1): {PIXELS}, (2, 3): {PIXELS}}
    whole = bits(model.predict(x, batch_size=3, strategy="serial"))
    for threads in (2, 3):
        assert np.array_equal(bits(model.predict(x, batch_size=1, strategy=Parts(threads))), whole), threads
