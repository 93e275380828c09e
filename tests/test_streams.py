"""Data larger than memory: files, memory maps and iterables give the bits that arrays give, and leave nothing behind."""

from __future__ import annotations

import mmap
import threading
import traceback
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocesses import run_python

import parnet as pn
from parnet import layers as L
from parnet.errors import DataError, DTypeError, FileFormatError, HyperparameterError, ParnetWarning
from parnet.strategy import CUDA, ParameterServer, Serial, Strategy, Threads
from parnet.train import stream
from parnet.train.prefetch import Prefetch

ROWS, BATCH = 203, 16
CUTS = [0, 40, 41, 130, ROWS]


def data(dtype="float32"):
    rng = np.random.default_rng(3)
    return rng.normal(size=(ROWS, 3, 4)).astype(dtype), rng.integers(0, 5, ROWS)


X, Y = data()


def compiled(seed=11):
    """Dropout, so that the numbers that rows are known by count; moving averages; a metric."""
    model = pn.Sequential(
        [
            L.Flatten(input_shape=(3, 4)),
            L.Dense(8, activation="tanh"),
            L.BatchNormalization(),
            L.Dropout(0.4),
            L.Dense(5, activation="softmax"),
        ],
        seed=seed,
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


def trained(*args, model=None, **options):
    """(history, weights) of three epochs."""
    model = model or compiled()
    history = model.fit(*args, **{"epochs": 3, "batch_size": BATCH, "verbose": 0} | options)
    return history.history, model.get_weights()


def assert_same(one, two):
    assert one[0] == two[0]
    for a, b in zip(one[1], two[1], strict=True):
        np.testing.assert_array_equal(a, b)


def batches(x=X, y=Y, size=BATCH):
    return [(x[k : k + size], y[k : k + size]) for k in range(0, len(x), size)]


def endless():
    while True:
        yield from batches()


class Sequence:
    """What Keras calls a Sequence: length and items, no iterator."""

    def __len__(self):
        return len(batches())

    def __getitem__(self, k):
        return batches()[k]


def shards(folder, save=np.savez, names="s", **arrays):
    """.npz files of the rows between the cuts."""
    paths = []
    for first, last in pairwise(CUTS):
        paths.append(folder / f"{names}{first}.npz")
        save(paths[-1], **{name: array[first:last] for name, array in arrays.items()})
    return paths


# -- the same bits ----------------------------------------------------------------------------

FILES = {
    "a memory map": lambda d: (np.load(d / "x.npy", mmap_mode="r"), Y),
    "a .npy file": lambda d: (d / "x.npy", Y),
    ".npy files": lambda d: ([d / "x.npy"], [str(d / "y.npy")]),
    ".npz files": lambda d: (shards(d, x=X, y=Y),),
    "compressed .npz files": lambda d: (shards(d, np.savez_compressed, x=X, y=Y),),
    "a loader of arrays": lambda d: (pn.DataLoader(X, Y, BATCH, shuffle=True, seed=11),),
    "a loader of files": lambda d: (pn.DataLoader(shards(d, x=X, y=Y), batch_size=BATCH, shuffle=True, seed=11),),
    "a loader without a thread": lambda d: (pn.DataLoader(d / "x.npy", Y, BATCH, shuffle=True, seed=11, prefetch=0),),
}


@pytest.mark.parametrize("kind", FILES)
def test_shuffled_files_give_the_bits_of_arrays(kind, tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    assert_same(trained(*FILES[kind](tmp_path), strategy="threads"), trained(X, Y, strategy="serial"))


SOURCES = {
    "windows of files": lambda d: pn.DataLoader(shards(d, x=X, y=Y), batch_size=BATCH, window=2 * BATCH + 3),
    "windows of an array": lambda d: pn.DataLoader(X, Y, BATCH, window=BATCH),
    "windows of compressed files": lambda d: pn.DataLoader(
        shards(d, np.savez_compressed, x=X, y=Y), batch_size=BATCH, window=BATCH
    ),
    "a function": lambda d: batches,
    "a generator function": lambda d: lambda: (yield from batches()),
    "a list of batches": lambda d: batches(),
    "an object with items": lambda d: Sequence(),
    "batches of float64": lambda d: lambda: ((x.astype("float64"), y) for x, y in batches()),
    "batches in lists": lambda d: lambda: iter([[x.tolist(), y.tolist()] for x, y in batches()]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_streams_in_order_give_the_bits_of_arrays_in_order(kind, tmp_path):
    assert_same(trained(SOURCES[kind](tmp_path), strategy="threads"), trained(X, Y, shuffle=False, strategy="serial"))


@pytest.mark.parametrize("strategy", (Serial(shards=3), Threads(shards=3)), ids=("serial", "threads"))
def test_streams_in_virtual_shards_give_the_bits_of_arrays(strategy, tmp_path):
    loader = SOURCES["windows of files"](tmp_path)
    plain, shared = compiled(), compiled()
    one, other = (
        trained(loader, model=plain, strategy=strategy),
        trained(X, Y, shuffle=False, strategy=Serial(shards=3), model=shared),
    )
    assert_same(one, other)
    assert plain.evaluate(loader, strategy=strategy) == shared.evaluate(X, Y, BATCH, strategy=Serial(shards=3))
    np.testing.assert_array_equal(plain.predict(loader, strategy=strategy), shared.predict(X, BATCH))


def test_only_whole_arrays_are_vouched_for(monkeypatch):
    """What a device keeps from one epoch to the next must be what the next one is fed."""
    model, fed = compiled(), []
    start = model.session.start
    monkeypatch.setattr(model.session, "start", lambda program, feed: (fed.append(feed), start(program, feed)))
    trained(X, Y, model=model, validation_data=(X[:50].copy(), Y[:50]), strategy="serial")
    training, held = [feed.unchanged for feed in fed[::2]], [feed.unchanged for feed in fed[1::2]]
    assert training == training[:1] * 3 and held == held[:1] * 3
    assert None not in (training[0], held[0]) and training[0] is not held[0]
    fed.clear()
    trained(pn.DataLoader(X, Y, BATCH, window=BATCH), model=model, validation_data=batches, strategy="serial")
    assert len(fed) > 6 and all(feed.unchanged is None for feed in fed)


def test_an_iterator_with_steps_goes_on_where_the_last_epoch_ended():
    drawn = []

    def counted():
        for item in endless():
            drawn.append(1)
            yield item

    steps = -(-ROWS // BATCH)
    iterator = counted()
    assert_same(trained(iterator, steps_per_epoch=steps), trained(X, Y, shuffle=False))
    assert len(drawn) == 3 * steps  # and no more than needed
    next(iterator)  # nor has it been closed


def test_a_list_of_batches_begins_again_where_steps_are_more():
    model, by_hand = compiled(), compiled()
    model.fit(batches()[:3], epochs=2, steps_per_epoch=4, verbose=0)
    assert model.optimizer.iterations == 8
    by_hand.fit(lambda: (batches()[:3] * 2)[:4], epochs=1, verbose=0)
    by_hand.fit(lambda: (batches()[:3] * 3)[4:8], epochs=2, initial_epoch=1, verbose=0)
    for a, b in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_float64_maps_are_read_in_place_and_give_the_bits_of_float64_arrays(tmp_path):
    x, y = data("float64")
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same(trained(mapped, y), trained(x, y))
    from parnet.train.data import as_inputs

    assert np.shares_memory(as_inputs(mapped, (3, 4), "x"), mapped)
    x[7, 1, 2] = 1e39
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match=r"received 1e\+39 at \(7, 1, 2\); it is too large for float32"):
        trained(np.load(tmp_path / "x.npy", mmap_mode="r"), y)


def test_windows_shuffle_within_themselves_and_among_each_other(tmp_path):
    x = np.arange(100, dtype=np.float32).reshape(100, 1)
    np.save(tmp_path / "x.npy", x)
    loader = pn.DataLoader(tmp_path / "x.npy", batch_size=4, window=12, shuffle=True, seed=2)
    passes = [np.concatenate([xb[:, 0] for xb in loader]) for _ in range(2)]
    firsts = []
    for order in passes:
        assert sorted(order) == list(range(100))
        whole = order[:96].reshape(8, 12)
        assert [sorted(rows) for rows in whole] == [list(range(int(min(w)), int(min(w)) + 12)) for w in whole]
        assert sorted(order[96:]) == [96, 97, 98, 99]  # the smaller window comes last
        assert any(list(rows) != sorted(rows) for rows in whole)
        firsts.append([min(w) for w in whole])
        assert firsts[-1] != sorted(firsts[-1])
    assert firsts[0] != firsts[1]


@given(
    cuts=st.lists(st.integers(0, 50), max_size=4),
    window=st.integers(3, 60),
    batch=st.integers(1, 3),
    shuffle=st.booleans(),
    packed=st.booleans(),
    drop=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_shards_and_windows_give_each_row_once(tmp_path_factory, cuts, window, batch, shuffle, packed, drop):
    folder, places = tmp_path_factory.mktemp("shards"), [0, *sorted(cuts), 50]
    x, y = np.arange(100, dtype=np.int16).reshape(50, 2), np.arange(50)
    paths = []
    for k, (first, last) in enumerate(pairwise(places)):
        paths.append(folder / f"{k}.npz")
        (np.savez_compressed if packed and k % 2 else np.savez)(paths[-1], x=x[first:last], y=y[first:last])
    loader = pn.DataLoader(paths, batch_size=batch, window=window, shuffle=shuffle, seed=1, drop_last=drop)
    got = list(loader)
    rows = np.concatenate([yb for _, yb in got])
    assert len(got) == len(loader) and len(rows) == (50 - 50 % batch if drop else 50)
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(np.concatenate([xb for xb, _ in got]), x[rows])
    assert {len(xb) for xb, _ in got[:-1]} <= {batch}
    if not shuffle:
        np.testing.assert_array_equal(rows, np.arange(len(rows)))


# -- everything else that fit, evaluate and predict do -----------------------------------------


def test_weights_of_samples_and_classes_come_through(tmp_path):
    weight = np.random.default_rng(0).uniform(0.5, 2, ROWS)
    paths = shards(tmp_path, x=X, y=Y, sample_weight=weight)
    wanted = trained(X, Y, sample_weight=weight, class_weight={1: 3.0})
    assert_same(trained(paths, class_weight={1: 3.0}), wanted)
    loader = pn.DataLoader(X, Y, BATCH, sample_weight=weight, shuffle=True, seed=11)
    assert_same(trained(loader, class_weight={1: 3.0}), wanted)


def test_batches_of_all_sizes_are_those_of_train_on_batch():
    sizes, model, by_hand = [5, 5, 30, 7, 30, 30, 1], compiled(), compiled()
    ends = np.cumsum(sizes)
    items = [(X[last - size : last], Y[last - size : last]) for size, last in zip(sizes, ends, strict=True)]
    for one in (model, by_hand):
        one.layers[3].rate = 0.0  # train_on_batch counts the batches of its dropout in another way
    model.fit(items, verbose=0)
    for xb, yb in items:
        by_hand.train_on_batch(xb, yb)
    for a, b in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.optimizer.iterations == len(sizes)


def test_an_iterable_may_give_out_the_same_arrays_again():
    def reusing():
        x, y = np.empty((BATCH, 3, 4), "float32"), np.empty(BATCH, int)
        for k in range(0, ROWS - BATCH, BATCH):
            x[:], y[:] = X[k : k + BATCH], Y[k : k + BATCH]
            yield x, y
            x[:], y[:] = 7, 0

    rows = (ROWS - BATCH + BATCH - 1) // BATCH * BATCH
    assert_same(trained(reusing), trained(X[:rows], Y[:rows], shuffle=False))


def test_evaluate_and_predict_take_what_fit_takes(tmp_path):
    np.save(tmp_path / "x.npy", X)
    model, paths = compiled(), shards(tmp_path, x=X, y=Y)
    model.fit(X, Y, verbose=0)
    loss, outputs = model.evaluate(X, Y, BATCH), model.predict(X, BATCH)
    for source in (batches, paths, pn.DataLoader(paths, batch_size=BATCH, window=BATCH), pn.DataLoader(X, Y, BATCH)):
        assert model.evaluate(source, batch_size=BATCH) == loss
        np.testing.assert_array_equal(model.predict(source, batch_size=BATCH), outputs)
    np.testing.assert_array_equal(model.predict(tmp_path / "x.npy", BATCH), outputs)
    np.testing.assert_array_equal(model.predict(lambda: (x for x, _ in batches())), outputs)
    assert model.evaluate(endless(), steps=4) == model.evaluate(X[: 4 * BATCH], Y[: 4 * BATCH], BATCH)
    assert len(model.predict(endless(), steps=2)) == 2 * BATCH


def test_validation_data_may_be_a_stream(tmp_path):
    model = compiled()
    wanted = model.fit(X, Y, BATCH, 2, validation_data=(X[:50].copy(), Y[:50]), verbose=0).history
    np.savez(tmp_path / "v.npz", x=X[:50], y=Y[:50])
    for held in (lambda: batches(X[:50], Y[:50]), pn.DataLoader(tmp_path / "v.npz"), str(tmp_path / "v.npz")):
        assert compiled().fit(X, Y, BATCH, 2, validation_data=held, verbose=0).history == wanted
    history = compiled().fit(X, Y, BATCH, 2, validation_data=endless(), validation_steps=3, verbose=0).history
    assert len(history["val_loss"]) == 2


def test_several_inputs_come_as_lists_and_dicts():
    a, b = pn.Input((2,), name="a"), pn.Input((3,), name="b")
    rng = np.random.default_rng(5)
    xa, xb, y = rng.normal(size=(40, 2)), rng.normal(size=(40, 3)), rng.normal(size=(40, 1))

    def fresh():
        model = pn.Model([a, b], L.Dense(1)(L.Concatenate()([L.Dense(2)(a), L.Dense(2)(b)])), seed=1)
        model.compile("sgd", "mse")
        return model

    parts = [slice(k, k + 8) for k in range(0, 40, 8)]
    wanted = fresh().fit([xa, xb], y, 8, 2, shuffle=False, verbose=0).history
    assert fresh().fit(lambda: (([xa[p], xb[p]], y[p]) for p in parts), epochs=2, verbose=0).history == wanted
    assert fresh().fit(lambda: (({"b": xb[p], "a": xa[p]}, y[p]) for p in parts), epochs=2, verbose=0).history == wanted


def test_progress_says_what_is_known(capsys):
    compiled().fit(batches, epochs=2, verbose=2)
    compiled().fit(endless(), epochs=1, steps_per_epoch=3, verbose=1)
    compiled().evaluate(batches, verbose=2)
    out = capsys.readouterr().out
    assert "Train on batches as they come" in out and "Train on 3 batches an epoch" in out
    assert "Evaluate - " in out and "None" not in out


# -- what goes wrong ----------------------------------------------------------------------------


def failing():
    yield from batches()[:3]
    raise ArithmeticError("the user's own")


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_iterables_exception_surfaces_with_its_traceback(ahead):
    model = compiled()
    with pytest.raises(ArithmeticError, match="the user's own") as caught:
        for _ in range(2):
            model.fit(pn.DataLoader(failing, prefetch=ahead), epochs=2, verbose=0)
    assert "in failing" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ArithmeticError):
        for _ in pn.DataLoader(failing, prefetch=ahead):
            pass


def data_threads():
    return [t for t in threading.enumerate() if t.name == "parnet-data"]


def test_no_thread_stays_whatever_ends_the_training():
    class Interrupt(pn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    class Stop(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(endless(), steps_per_epoch=1000, callbacks=[Interrupt()], verbose=0)
    assert not data_threads()
    model.fit(endless(), steps_per_epoch=4, epochs=9, callbacks=[Stop()], verbose=0)
    assert not data_threads()
    for _ in pn.DataLoader(endless()):
        break
    assert not data_threads()
    loader = iter(pn.DataLoader(endless()))
    next(loader)
    assert data_threads()
    loader.close()
    assert not data_threads()


def test_a_thread_works_no_further_ahead_than_asked():
    made, enough = [], threading.Event()

    def items():
        for k in range(100):
            made.append(k)
            if len(made) == 4:
                enough.set()
            yield k

    with Prefetch(items, 2) as ahead:
        assert next(ahead) == 0
        assert enough.wait(20)  # one taken, two ready, one that waits to be put
        assert not data_threads()[0].join(0.1) and len(made) == 4
        assert list(ahead) == list(range(1, 100))


def test_running_out_of_data_is_said():
    model = compiled()
    with pytest.warns(ParnetWarning, match=r"fit: the data ran out in epoch 2, after 3 of 5 batches"):
        history = model.fit(iter(batches()[:8]), epochs=4, steps_per_epoch=5, verbose=0)
    assert len(history.epoch) == 2 and model.optimizer.iterations == 8
    with pytest.warns(ParnetWarning, match=r"ran out in epoch 3, before its first batch"):
        assert len(compiled().fit(iter(batches()[:10]), epochs=4, steps_per_epoch=5, verbose=0).epoch) == 2


class NoStreams(Strategy):
    """A strategy that takes arrays alone."""


REFUSED = {
    "nothing": (lambda: compiled().fit(lambda: iter(())), DataError, "expected at least one batch"),
    "nothing to evaluate": (lambda: compiled().evaluate(lambda: iter(())), DataError, "expected at least one batch"),
    "an iterator for epochs": (lambda: trained(iter(batches())), DataError, "gone through 3 times, received an iterator"),
    "an iterator to validate": (
        lambda: trained(X, Y, validation_data=iter(batches())),
        DataError,
        "fit: validation_data: expected an iterable that can be gone through in each epoch",
    ),
    "a split": (lambda: trained(batches, validation_split=0.1), HyperparameterError, "arrays with validation_split"),
    "y beside": (lambda: trained(batches, Y), DataError, r"fit: expected y=None and sample_weight=None with function"),
    "a wrong shape": (lambda: trained(lambda: [(X[:4, :2], Y[:4])]), ValueError, r"batch 1: x: expected \(rows, 3, 4\)"),
    "NaN later": (
        lambda: trained(lambda: [*batches()[:2], (np.full((4, 3, 4), np.nan), Y[:4])]),
        DataError,
        "fit: batch 3: x: expected finite numbers",
    ),
    "an empty batch": (lambda: trained(lambda: [(X[:0], Y[:0])]), DataError, "batch 1.*at least 1 row"),
    "no pairs": (lambda: trained(lambda: ["abc"]), DataError, "batch 1: expected .x, y. or .*, received str"),
    "no iterator": (lambda: trained(lambda: 3), DTypeError, "returns an iterator, received one that returns 3"),
    "no targets": (lambda: trained(lambda: [X[:4]]), DataError, "fit: batch 1: expected targets y"),
    "a strategy": (lambda: trained(batches, strategy=NoStreams()), DataError, "expected arrays with NoStreams"),
    "a parameter server": (
        lambda: trained(batches, strategy=ParameterServer(1)),
        DataError,
        "fit: expected arrays with ParameterServer, received a loader",
    ),
    "a GPU to predict": (
        lambda: compiled().predict(batches, strategy=CUDA()),
        DataError,
        "predict: expected arrays with CUDA, received a loader",
    ),
    "shuffled batches": (lambda: pn.DataLoader(batches, shuffle=True), HyperparameterError, r"DataLoader\(shuffle\)"),
    "a small window": (lambda: pn.DataLoader(X, Y, 16, window=8), HyperparameterError, "at least batch_size, 16"),
    "unequal lengths": (lambda: pn.DataLoader(X, Y[:9]), DataError, "expected y of 203 rows like x"),
    "only a short batch": (
        lambda: trained(pn.DataLoader(X[:3], Y[:3], 16, drop_last=True)),
        DataError,
        "at least one batch.*smaller batch_size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_streams_that_make_no_sense_are_refused(name):
    attempt, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        attempt()
    assert not data_threads()


def spoil_object(path):
    np.save(path, np.array([{}, 1], object), allow_pickle=True)


def spoil_shard(path):
    np.save(path.with_name("other.npy"), np.zeros((4, 2), np.float32))
    return [path, path.with_name("other.npy")]


def spoil_member(path):
    np.savez(path.with_suffix(".npz"), a=X)
    return path.with_suffix(".npz")


FILES_REFUSED = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-5]), FileFormatError, "expected 9744 bytes of numbers"),
    "no array": (lambda p: p.write_text("hello, world"), FileFormatError, "expected an array as np.save writes it"),
    "Fortran order": (lambda p: np.save(p, np.asfortranarray(X)), FileFormatError, "Fortran order"),
    "objects": (spoil_object, DTypeError, "expected numbers, received an array of object"),
    "texts": (lambda p: np.save(p, np.array(["a", "b"])), DTypeError, "expected numbers"),
    "one number": (lambda p: np.save(p, np.float32(3)), DataError, "expected rows, received one number"),
    "no rows": (lambda p: np.save(p, X[:0]), DataError, "at least one row"),
    "other rows": (spoil_shard, DataError, r"expected rows of \(3, 4\) float32"),
    "no member": (spoil_member, DataError, "expected an array named x, received a; save it as"),
}


@pytest.mark.parametrize("name", FILES_REFUSED)
def test_files_that_cannot_be_used_are_refused_at_once(name, tmp_path):
    spoil, kind, words = FILES_REFUSED[name]
    path = tmp_path / "x.npy"
    np.save(path, X)
    made = spoil(path)
    source = made if isinstance(made, list) or hasattr(made, "suffix") else path
    with pytest.raises(kind, match=words):
        pn.DataLoader(source)
    with pytest.raises(FileNotFoundError):
        pn.DataLoader(tmp_path / "missing.npy")


def test_a_file_that_shrinks_during_training_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((4000, 3, 4), np.float32))
    loader = pn.DataLoader(path, np.zeros(4000, int), BATCH, window=BATCH, prefetch=0)
    items = iter(loader)
    next(items)
    with open(path, "r+b") as file:
        file.truncate(9000)
    with pytest.raises(FileFormatError, match="has the file been changed"):
        list(items)


def test_a_file_larger_than_the_memory_limit_trains(tmp_path):
    pytest.importorskip("resource", reason="limits of memory are set by resource, which this system has not")
    code = f"""
import mmap
import os, resource
import numpy as np, parnet as pn
from parnet import layers as L
path, rows = {str(tmp_path / "large.npy")!r}, 400 * 1024
with open(path, "wb") as file:  # 400 MiB of zeros that take no place on the disk
    np.lib.format.write_array_header_1_0(file, dict(descr="|u1", fortran_order=False, shape=(rows, 1024)))
    file.truncate(file.tell() + rows * 1024)
y = (np.arange(rows) % 2).astype("uint8")
model = pn.Sequential([L.Dense(4, input_shape=(1024,), activation="relu"), L.Dense(2, activation="softmax")], seed=1)
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(np.zeros((64, 1024), "uint8"), y[:64], verbose=0, strategy="serial")  # compiles
statm = "/proc/self/statm"
used = int(open(statm).read().split()[0]) * resource.getpagesize() if os.path.exists(statm) else 1 << 32
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
try:
    np.load(path)
    print("fits")
except MemoryError:
    print("too-large")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
history = model.fit(path, y, batch_size=1024, verbose=0, strategy="serial")
print(model.optimizer.iterations, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 256)
"""
    # a thread's own heap takes 64 to 128 MiB of addresses, no memory, and on a busy machine comes at any time
    assert run_python(code, MALLOC_ARENA_MAX="1") == ["too-large", "402", "True"]


def test_only_what_lies_in_a_file_is_brought_into_memory_ahead(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((8, 3), np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert stream._lies_in_a_file(mapped) and stream._lies_in_a_file(np.asarray(mapped)[2:].reshape(-1))
    assert not stream._lies_in_a_file(np.array(mapped)) and not stream._lies_in_a_file(mapped.astype(np.float64))


def test_a_file_that_the_user_has_mapped_is_brought_into_memory_ahead_too(tmp_path):
    np.ones((8, 3), np.float32).tofile(tmp_path / "x.bin")
    with open(tmp_path / "x.bin", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    views = memoryview(mapped), memoryview(np.memmap(tmp_path / "x.bin", mode="r"))
    for view in (mapped, *views):
        assert stream._lies_in_a_file(np.frombuffer(view, np.float32).reshape(8, 3))
    assert all(stream._lies_in_a_file(np.asarray(view)) for view in views)
    assert not stream._lies_in_a_file(np.asarray(memoryview(mapped[:])))
