"""Plans of random networks and of random steps: no race, no overlap, a look at the loss before a weight moves."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_checker import clash, overlaps, places_of, races, touches

import parnet as pn
from parnet import layers as L
from parnet import losses, metrics, optimizers
from parnet.kernels.step import COLUMNS, EACH, EVERYONE, FLAT, LINE, ONE, ROWS_SHARED, Access, Buffer, Step, row_stride
from parnet.layers.base import count
from parnet.plan.layout import lifetimes, place, size_of, stages
from parnet.plan.plan import Request, make_plan
from parnet.plan.schedule import MEET_AND_CHECK, Slot, schedule

quick = settings(max_examples=250, deadline=None, derandomize=True, database=None)
WIDTHS = st.sampled_from([1, 2, 7, 10, 16, 17, 33, 40, 64, 100, 130])
ACTIVATIONS = st.sampled_from(["linear", "relu", "tanh", "gelu", "silu", "softmax", "selu"])
OPTIMIZERS = st.sampled_from(
    [
        lambda: optimizers.SGD(0.1),
        lambda: optimizers.SGD(0.1, momentum=0.9, clipvalue=0.5),
        lambda: optimizers.Adam(clipnorm=1.0),
        lambda: optimizers.RMSprop(momentum=0.5, global_clipnorm=1.0),
        lambda: optimizers.AdamW(clipnorm=1.0, global_clipnorm=1.0, clipvalue=1.0),
    ]
)


@st.composite
def layer(draw):
    kind = draw(st.sampled_from(["dense", "dense", "norm", "dropout", "activation", "scale"]))
    if kind == "dense":
        penalty = draw(st.sampled_from([None, "l2", "l1"]))
        bias, activation, frozen = draw(st.booleans()), draw(ACTIVATIONS), draw(st.integers(0, 4)) == 0
        return L.Dense(draw(WIDTHS), activation, bias, kernel_regularizer=penalty, trainable=not frozen)
    if kind == "norm":
        return L.BatchNormalization(trainable=draw(st.integers(0, 4)) > 0)
    if kind == "activation":
        return L.Activation(draw(ACTIVATIONS))
    return L.Rescaling(0.5, 0.1) if kind == "scale" else L.Dropout(draw(st.sampled_from([0.0, 0.4])))


MERGES = st.sampled_from([L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Concatenate])


@st.composite
def graph(draw, end):
    """One or two inputs, residual connections, layers called twice, views, and everything joined before the last layer."""
    inputs = [pn.Input((draw(WIDTHS),)) for _ in range(draw(st.integers(1, 2)))]
    tensors, called = list(inputs), []
    for _ in range(draw(st.integers(0, 7))):
        x = draw(st.sampled_from(tensors))
        kind = draw(st.sampled_from(["layer", "layer", "merge", "merge", "again", "view"]))
        again = [one for one in called if one.input_shape is None and one.outputs[0].inputs[0].shape == x.shape]
        if kind == "merge":
            cls, alike = draw(MERGES), [t for t in tensors if t.shape == x.shape]
            chosen = tensors if cls is L.Concatenate else alike
            n = 2 if cls is L.Subtract else draw(st.integers(2, 4))
            tensors.append(cls()([draw(st.sampled_from(chosen)) for _ in range(n)]))
        elif kind == "view":
            tensors.append(L.Flatten()(L.Reshape((1, -1))(x)))
        else:
            one = draw(st.sampled_from(again)) if kind == "again" and again else draw(layer())
            tensors.append(one(x))
            called.append(one)
    read = {id(source) for t in tensors for source in t.inputs}
    ends = [t for t in tensors if id(t) not in read]
    ends = [L.Concatenate()(ends)] if len(ends) > 1 else ends
    return pn.Model(inputs, L.Dense(draw(WIDTHS), end)(ends[0]), seed=1)


@st.composite
def plans(draw):
    """A plan of a random network for a random purpose."""
    last = draw(st.sampled_from([("softmax", "sparse_categorical_crossentropy"), ("sigmoid", "bce"), ("gelu", "mse")]))
    if draw(st.booleans()):
        model = draw(graph(last[0]))
    else:
        model = pn.Sequential([L.Input((draw(WIDTHS),)), *draw(st.lists(layer(), max_size=6))], seed=1)
        model.add(L.Dense(draw(WIDTHS), last[0]))
    purpose = draw(st.sampled_from(["train", "train", "manual", "evaluate", "predict"]))
    chosen = tuple(metrics.get(m) for m in draw(st.sets(st.sampled_from(["accuracy", "confusion", "top_k_accuracy"]))))
    if last[1] != "sparse_categorical_crossentropy":
        chosen = tuple(m for m in chosen if m.name == "accuracy")
    measured = purpose != "predict"
    request = Request(
        purpose,
        draw(st.sampled_from([1, 7, 8, 9, 32, 33, 128])),
        threads=draw(st.integers(1, 5)),
        loss=losses.get(last[1]) if measured else None,
        metrics=chosen if measured else (),
        optimizer=draw(OPTIMIZERS)() if purpose == "train" else None,
        weighted=measured and draw(st.booleans()),
    )
    return model.session.network, make_plan(model.session.network, request)


@quick
@given(plans(), st.booleans())
def test_no_two_parts_ever_disturb_each_other(monkey, made, shred):
    network, plan = made
    if shred:
        with monkey.context() as patch:  # every step cut as far as it can be
            patch.setattr("parnet.plan.schedule.GRAIN_US", 1e-9)
            plan = make_plan(network, plan.request)
    where, _ = places_of(plan, size_of)
    assert races(plan.steps, plan.slots, where) == []


@quick
@given(plans())
def test_buffers_in_use_at_once_lie_apart_and_inside_the_arena(made):
    _, plan = made
    _, at = places_of(plan, size_of)
    lasting = set(plan.offsets) if plan.request.purpose == "manual" else set()
    assert overlaps(plan.steps, at, lasting) == []
    assert all(0 <= at(name)[0] and at(name)[1] <= plan.arena_size for name in plan.offsets)
    assert all(offset % LINE == 0 for offset in plan.offsets.values())


@quick
@given(plans())
def test_no_more_parts_than_threads_and_own_copies_only_where_every_part_writes_them(made):
    _, plan = made
    for step, slot in zip(plan.steps, plan.slots, strict=True):
        assert slot.parts == EVERYONE or 1 <= slot.parts <= plan.request.threads
        if slot.parts == EVERYONE:
            assert all(plan.buffers[a.buffer.name].copies for a in step.accesses if a.writes)
        elif plan.request.threads > 1:
            assert not any(a.writes and plan.buffers.get(a.buffer.name, a.buffer).copies for a in step.accesses)


@quick
@given(plans())
def test_the_loss_is_looked_at_before_the_batch_changes_any_weight(made):
    """After the tally, the first thing to touch weights or slots must come behind a check of the stop flag."""
    _, plan = made
    kernels = [step.kernel for step in plan.steps]
    if "loss.tally" not in kernels:
        return
    index = kernels.index("loss.tally")
    while plan.slots[index].barrier != MEET_AND_CHECK:
        index += 1
        assert index < len(plan.steps), "the stop flag is never looked at"
        regions = {a.buffer.region for a in plan.steps[index].accesses if a.writes}
        assert not regions & {"parameters", "state", "slots"}, f"{kernels[index]} comes before the check"


@quick
@given(plans())
def test_weights_lie_apart_and_inside_their_regions(made):
    network, _ = made
    for region, size in network.sizes.items():
        spans = sorted((p.offset, p.offset + p.size) for p in network.placed.values() if p.region == region)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        assert not spans or spans[-1][1] <= size
    for p in network.placed.values():
        assert p.size >= count(p.weight.shape) and p.offset % LINE == 0


# -- steps that no layer would declare --------------------------------------------------------------------

SHARES = st.sampled_from([COLUMNS, ROWS_SHARED, ONE, FLAT])
BUFFERS = [Buffer(f"b{i}", "arena", (5, 17, 64, 200)[i % 4], per_row=i % 2 == 0) for i in range(8)]
COPIED = Buffer("copied", "arena", 50, per_row=True, copies=True)


@st.composite
def step(draw):
    share = draw(SHARES)
    extent = {ONE: (1,), FLAT: (draw(st.sampled_from([64, 1000])),)}.get(share, (-1, draw(st.sampled_from([40, 100]))))
    used = draw(st.lists(st.sampled_from(BUFFERS), min_size=1, max_size=4, unique=True))
    accesses = tuple(Access(b, writes=draw(st.booleans()), local=draw(st.booleans())) for b in used)
    # what a part writes it owns; layers declare nothing else
    accesses = tuple(Access(a.buffer, a.writes, a.local or a.writes) for a in accesses)
    if draw(st.booleans()):
        accesses += (Access(COPIED, writes=False, local=False),)
    return Step("some.kernel", (), accesses, share, extent, 0.0, draw(st.sampled_from([1.0, 1e6])))


@st.composite
def lists_of_steps(draw):
    steps = draw(st.lists(step(), min_size=1, max_size=14))
    gather = Step("some.gather", (), (Access(COPIED, writes=True, local=True),), EACH, (-1,), 0.0, 1e6)
    return tuple([gather, *steps])


@quick
@given(lists_of_steps(), st.integers(1, 5), st.sampled_from([1, 9, 64]))
def test_steps_of_any_kind_are_separated_where_they_clash_and_placed_apart(steps, threads, batch):
    slots = schedule(steps, batch, threads)
    buffers = {b.name: b for b in (*BUFFERS, COPIED)}
    alive = lifetimes(steps, stages(slots, threads), frozenset())
    offsets, size = place(buffers, alive, batch, threads)

    def at(name):
        return offsets[name], offsets[name] + size_of(buffers[name], batch, threads)

    assert overlaps(steps, at) == []
    assert all(at(name)[1] <= size for name in offsets)
    if threads > 1:
        assert races(steps, slots, lambda step, b: ("arena", *at(b.name), b.copies)) == []


@quick
@given(plans())
def test_each_weight_has_its_gradient_stored_once_and_added_to_by_further_calls_or_is_updated_in_one_step(made):
    """The first step to touch a gradient stores it; a weight whose update rides is touched by one step alone."""
    network, plan = made
    if plan.request.purpose != "train":
        return
    backward = [s for s in plan.steps if s.phase == "backward"]
    modes = {"product.weight_gradient": 5, "reduce.bias_gradient": 3, "norm.batch_backward": 9}
    modes |= {"input_norm.spread": 9, "input_norm.collect": 5}
    for key, p in network.placed.items():
        writers = [s for s in backward if any(a.writes and a.buffer.name in (key, f"d {key}") for a in s.accesses)]
        makers = [s for s in writers if s.kernel in modes]
        assert bool(makers) == p.trainable
        found = [s.operands[modes[s.kernel]] for s in makers]
        assert found in ([], [1], [0] + [2] * (len(found) - 1)), f"{key}: {found}"
        layers = [s.kernel for s in plan.steps if s.kernel == "reduce.penalty_gradient" and key in str(s.accesses)]
        assert len(layers) == (p.trainable and p.weight.regularizer is not None)


@quick
@given(plans())
def test_nobody_writes_over_what_a_layer_keeps_for_its_backward_pass(made):
    """A buffer of the forward pass that the backward pass reads is not written in between."""
    _, plan = made
    forward, since = set(), {}
    for step in plan.steps:
        names = {(a.buffer.name, a.writes) for a in step.accesses if a.buffer.region == "arena"}
        if step.phase == "backward":
            spoilt = [f"{step.kernel} reads {n} after {since[n]}" for n, writes in names if not writes and n in since]
            assert not spoilt, spoilt
        for name in (n for n, writes in names if writes):
            if step.phase in ("input", "forward"):
                forward.add(name)
            elif name in forward:
                since[name] = step.kernel


@quick
@given(st.integers(1, 10_000))
def test_rows_are_padded_to_whole_lines(width):
    """At most one line more than needed, so that rows do not fall into the same sets of a cache."""
    assert width <= row_stride(width) < width + 2 * LINE and row_stride(width) % LINE == 0


# -- the checker itself -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def monkey():
    return pytest.MonkeyPatch


@pytest.mark.parametrize(
    "first, second, wanted",
    [
        ((True, ("rows", -1, 2), "a", 0), (False, ("rows", -1, 2), "a", 0), False),
        ((True, ("rows", -1, 2), "a", 0), (False, ("columns", 9, 2), "a", 0), True),
        ((True, ("rows", -1, 2), "a", 0), (False, None, "a", 0), True),
        ((False, None, "a", 0), (False, None, "a", 0), False),
        ((True, ("first",), "a", 0), (True, ("first",), "b", 0), False),
        ((True, ("rows", -1, 2), "a", 0), (True, ("rows", -1, 2), "b", 9), True),
        ((True, ("rows", -1, 2), "a", 0), (True, ("rows", -1, 2), "b", 10), False),
    ],
)
def test_the_checker_knows_a_clash(first, second, wanted):
    def access(writes, who, name, start):
        step = Step("k", (), (Access(Buffer(name, "arena", 10), writes, True),), ONE, (1,), 0, 0)
        ((touch,),) = touches((step,), (Slot(1, 0),), lambda step, b: ("arena", start, start + 10, False))
        return type(touch)(**(touch.__dict__ | {"owner": who}))

    assert clash(access(*first), access(*second)) == wanted


def test_the_checker_sees_a_race_that_a_barrier_would_end():
    a = Buffer("a", "arena", 10, per_row=True)
    write = Step("w", (), (Access(a, True, True),), ROWS_SHARED, (-1,), 0, 0)
    read = Step("r", (), (Access(a, False, False),), COLUMNS, (-1, 10), 0, 0)

    def where(step, buffer):
        return "arena", 0, 10, False

    assert races((write, read), (Slot(2, 0), Slot(2, 1)), where)
    assert races((write, read), (Slot(2, 1), Slot(2, 0)), where)  # the end of the list meets its beginning
    assert not races((write, read), (Slot(2, 1), Slot(2, 1)), where)
