"""A product asks for the next batch's rows: the right lines, only where that pays, and never with other results."""

import numpy as np
import pytest

import parnet as pn
from parnet.kernels import ahead, control, share
from parnet.kernels.step import COLUMNS, EACH, NOTHING_ASKED, ROWS_SHARED
from parnet.plan.plan import Request, make_plan

DATA, ORDER_AT, SIZE, WIDTH, BATCH, ROWS, DEPTH = 1 << 20, 77, 4, 784, 32, 105, 128
LINE = 64


@pytest.fixture
def order(monkeypatch):
    """The order of the rows; the functions that kernels call are Python functions meanwhile."""
    order = np.random.default_rng(0).permutation(ROWS)
    for module, names in ((ahead, ("which", "rectangle")), (share, ("columns", "cut"))):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name).py_func)
    monkeypatch.setattr(ahead, "int64_at", {ORDER_AT: order}.__getitem__)
    return order


def asked_lines(first, tiles, cut, part, parts):
    """Lines that a part asks for in the batch that begins at place `first` of the order."""
    words = np.zeros(control.WIDTH, np.int64)
    words[[control.X, control.BATCH, control.TOTAL, control.ORDER]] = DATA, BATCH, ROWS, ORDER_AT
    words[control.FIRST] = first
    asked = ahead.part_of_next.py_func(words, (SIZE, WIDTH, cut, 0, DEPTH), tiles, part, parts)
    step = -(-asked[ahead.LENGTH] // DEPTH)
    places = [ahead.piece_of_next.py_func(asked, tile) for tile in range(tiles)]
    return {(place + k * step) // LINE for place in places if place for k in range(DEPTH)}


def lines_of(rows):
    return {(DATA + (int(row) * WIDTH + column) * SIZE) // LINE for row in rows for column in range(WIDTH)}


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("cut", [COLUMNS, ROWS_SHARED])
@pytest.mark.parametrize("tiles", [48, 100, 384])
@pytest.mark.parametrize("first", [0, 32, 64, 96])
def test_all_parts_together_ask_for_the_next_batch_and_hardly_more(order, first, tiles, cut, parts):
    asked = set().union(*(asked_lines(first, tiles, cut, part, parts) for part in range(parts)))
    wanted = lines_of(order[first + BATCH : first + 2 * BATCH])
    assert wanted <= asked and len(asked) <= 1.15 * len(wanted)


def test_a_product_of_few_tiles_asks_for_the_first_rows_alone(order):
    asked, rows = asked_lines(0, 20, ROWS_SHARED, 0, 1), order[BATCH : BATCH + 20]
    assert lines_of(rows) <= asked and len(asked) <= 1.15 * len(lines_of(rows))
    assert not asked_lines(0, 0, ROWS_SHARED, 0, 1)


def asks(batch=32, data="float32", threads=1, purpose="train", layers=(100,), features=784):
    """The words in which the products of a plan ask, and whether the gather step asks itself."""
    model = pn.Sequential([pn.Input((features,)), *map(pn.layers.Dense, layers), pn.layers.Dense(10)])
    loss, rule = pn.losses.SparseCategoricalCrossentropy(from_logits=True), pn.optimizers.SGD(0.1)
    request = Request(purpose, batch, data, threads=threads, loss=loss, optimizer=rule if purpose == "train" else None)
    steps = make_plan(model.session.network, request).steps
    words = [step.operands[-len(NOTHING_ASKED) :] for step in steps if step.kernel == "product.forward"]
    return words, bool(steps[0].operands[-1])


@pytest.mark.parametrize(("data", "size"), [("uint8", 1), ("float32", 4), ("float64", 8)])
def test_the_first_product_asks_and_the_gather_step_does_not(data, size):
    batch = 32 if size < 8 else 16
    assert asks(batch, data) == ([(size, 784, ROWS_SHARED, 0, DEPTH), NOTHING_ASKED], False)


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": "evaluate"},
        {"purpose": "manual"},
        {"batch": 128},
        {"layers": (200,)},
        {"features": 4096},
        {"features": 100},
    ],
    ids=str,
)
def test_nobody_asks_where_it_would_not_pay(other):
    assert asks(**other) == ([NOTHING_ASKED, NOTHING_ASKED], True)


def test_nobody_asks_for_a_part_of_the_rows_alone():
    """A product of few tiles would leave the last rows to nobody."""
    assert asks(layers=(), features=600) == ([NOTHING_ASKED], True)
    assert asks(layers=()) == ([(4, 784, ROWS_SHARED, 0, 784 // 8)], False)


def test_parts_that_share_the_weights_have_room_for_the_next_batch():
    """Each of them gathers the whole batch."""
    assert asks(threads=2, layers=(200,)) == ([(4, 784, EACH, 0, DEPTH), NOTHING_ASKED], False)


def test_blocks_become_smaller_where_a_part_has_fewer_tiles_than_rows():
    """Of 100 columns a part has one panel, four tiles high: eight blocks of the sums ask for 32 rows."""
    assert asks(threads=2) == ([(4, 784, EACH, 0, 784 // 8), NOTHING_ASKED], False)
    assert asks(threads=2, features=600) == ([NOTHING_ASKED, NOTHING_ASKED], True)


@pytest.mark.parametrize("tiles", [32, 48])
def test_parts_that_each_gather_everything_each_ask_for_everything(order, tiles):
    for part in range(2):
        asked = asked_lines(0, tiles, EACH, part, 2)
        assert lines_of(order[BATCH : 2 * BATCH]) <= asked


@pytest.mark.parametrize("rows", [32, 70, 96])
def test_weights_are_the_same_whoever_asks(rows, monkeypatch):
    """The last batch of an epoch is smaller, and nothing follows it."""

    def trained():
        model = pn.Sequential([pn.Input((784,)), pn.layers.Dense(100, "sigmoid"), pn.layers.Dense(10, "softmax")], seed=1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        rng = np.random.default_rng(2)
        model.fit(rng.random((rows, 784), np.float32), rng.integers(0, 10, rows), batch_size=32, epochs=2, verbose=0)
        return model.get_weights()

    assert asks()[0][0] != NOTHING_ASKED
    asking = trained()
    monkeypatch.setattr("parnet.plan.plan.ask_ahead", lambda steps, *_: steps)
    for ours, theirs in zip(asking, trained(), strict=True):
        assert np.array_equal(ours, theirs)
