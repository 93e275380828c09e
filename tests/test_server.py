"""The parameter server's decisions: modes, staleness, and sums that no lost, doubled or late message changes."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parnet.errors import HyperparameterError, StateError
from parnet.server.machine import Server
from parnet.server.messages import Average, Begin, Drop, Join, Leave, Push, Update
from parnet.server.rules import SSP, Async, Local, Sync

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

RULES = st.one_of(
    st.builds(Sync, backup=st.integers(0, 4)),
    st.builds(SSP, staleness=st.one_of(st.integers(0, 4), st.just(math.inf))),
    st.builds(Async, damped=st.booleans()),
    st.builds(Local, every=st.integers(1, 3)),
)


def rows_of(worker, step):
    """Uneven shards, some of them empty."""
    return (3 * worker + 5 * step) % 7


def gradient_of(worker, step, version):
    """The sum over a shard's samples, exact; it depends on the parameters it was computed with."""
    return rows_of(worker, step) * Fraction(1 + worker + 10 * step, 3) + Fraction(version, 7) * rows_of(worker, step)


class World:
    """Workers that do so many steps each, joined to a server by a network that loses, doubles and delays messages.

    Attributes:
        computed: (worker, step) -> its gradient.
        used, dropped: how often each (worker, step) was.
        weight: what the updates, exact means times -1, made of a weight 0.
        mail: messages under way, in any order.
    """

    def __init__(self, rule, workers, steps):
        self.server, self.rule, self.steps = Server(rule), rule, steps
        self.computed, self.versions = {}, {}
        self.used, self.dropped = Counter(), Counter()
        self.weight, self.log, self.mail = Fraction(0), [], []
        self.step_of, self.busy = dict.fromkeys(range(workers), -1), set()
        for worker in range(workers):
            self.tell(Join(worker))

    def tell(self, event):
        """An event reaches the server, which acts at once; what it tells workers goes into the mail."""
        replies = self.server.handle(event)
        self.log.append((event, replies))
        for reply in replies:
            if isinstance(reply, Begin):
                self.mail.append(reply)
            elif isinstance(reply, Drop):
                self.dropped[reply.worker, reply.step] += 1
            else:
                self.act(reply)

    def act(self, reply):
        workers = [share.worker for share in reply.shares]
        assert workers == sorted(set(workers)), "one gradient a worker, in the order of the workers"
        assert reply.rows == sum(share.rows for share in reply.shares) > 0
        total = Fraction(0)
        for share in reply.shares:
            assert share.rows == rows_of(share.worker, share.step)
            self.used[share.worker, share.step] += 1
            total += self.computed[share.worker, share.step]
        self.weight -= total / reply.rows

    def deliver(self, message):
        """A message arrives: a worker's at the server, or the server's at a worker."""
        if isinstance(message, Push | Leave):
            self.tell(message)
        elif message.step > self.step_of[message.worker]:  # else it came twice
            worker, step = message.worker, message.step
            self.step_of[worker] = step
            self.versions[worker, step] = message.version
            self.busy.add(worker)

    def finish(self, worker):
        """A worker ends its step: it pushes, and leaves after its last one."""
        step = self.step_of[worker]
        self.busy.discard(worker)
        self.computed[worker, step] = gradient_of(worker, step, self.versions[worker, step])
        self.mail.append(Push(worker, step, rows_of(worker, step)))

    def again(self, worker):
        """What a worker that has heard nothing for long sends once more."""
        step = self.step_of[worker]
        return Push(worker, step, rows_of(worker, step))

    def idle(self):
        """Workers that are there, have no step to do, and wait for word from the server."""
        return [w for w in self.server.workers if w not in self.busy]


def run_orderly(rule, workers, steps, order):
    """A network that loses nothing; `order` says who comes next. Returns the world at its end."""
    world = World(rule, workers, steps)
    for turn in range(100 * workers * steps + 100):
        for message in list(world.mail):
            if isinstance(message, Begin):
                world.mail.remove(message)
                if message.step >= steps:
                    world.tell(Leave(message.worker))
                else:
                    world.deliver(message)
        if not world.busy and not world.mail:
            return world
        candidates = sorted(world.busy)
        if candidates:
            world.finish(candidates[order[turn % len(order)] % len(candidates)])
        while any(isinstance(m, Push) for m in world.mail):
            push = next(m for m in world.mail if isinstance(m, Push))
            world.mail.remove(push)
            world.tell(push)
    raise AssertionError("no end: somebody waits for ever")


ORDER = st.lists(st.integers(0, 50), min_size=1, max_size=60)


@quick
@given(RULES, st.integers(1, 5), st.integers(1, 6), ORDER)
def test_every_run_ends_and_every_gradient_is_used_once_or_counted_as_dropped(rule, workers, steps, order):
    world = run_orderly(rule, workers, steps, order)
    assert world.server.workers == ()
    with_rows = {key for key in world.computed if rows_of(*key)}
    assert all(world.used[key] + world.dropped[key] == 1 for key in with_rows)
    assert sum(world.used.values()) == world.server.tally.used
    assert Counter(w for w, _ in world.dropped.elements()) == world.server.tally.dropped
    assert world.server.tally.dropped_rows == sum(rows_of(*key) for key in world.dropped.elements())
    if not getattr(rule, "backup", 0):
        assert not world.dropped and len(world.computed) == workers * steps


@quick
@given(st.integers(1, 5), st.integers(1, 6), ORDER)
def test_ssp_of_0_does_what_sync_does(workers, steps, order):
    assert run_orderly(SSP(0), workers, steps, order).log == run_orderly(Sync(), workers, steps, order).log


@quick
@given(st.integers(1, 5), st.integers(1, 6), ORDER)
def test_ssp_without_a_bound_does_what_async_does(workers, steps, order):
    assert run_orderly(SSP(math.inf), workers, steps, order).log == run_orderly(Async(), workers, steps, order).log


@quick
@given(st.integers(1, 5), st.integers(1, 6), ORDER, ORDER)
def test_sync_gives_the_same_weight_in_whatever_order_workers_come(workers, steps, order, other):
    one, two = (run_orderly(Sync(), workers, steps, o) for o in (order, other))
    assert one.weight == two.weight
    version = 0
    expected = Fraction(0)
    for step in range(steps):
        rows = sum(rows_of(w, step) for w in range(workers))
        if rows:
            expected -= sum(gradient_of(w, step, version) for w in range(workers)) / rows
            version += 1
    assert one.weight == expected


@quick
@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 8), ORDER)
def test_nobody_is_more_than_s_steps_ahead_of_the_slowest(staleness, workers, steps, order):
    tally = run_orderly(SSP(staleness), workers, steps, order).server.tally
    assert max(tally.lead) <= staleness


def test_a_fast_worker_does_get_s_steps_ahead():
    for staleness in range(4):
        server = Server(SSP(staleness))
        for worker in (0, 1):
            server.handle(Join(worker))
        step = 0
        while any(isinstance(reply, Begin) for reply in server.handle(Push(0, step, 1))):
            step += 1
        assert step == staleness and max(server.tally.lead) == staleness


@quick
@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 6), ORDER)
def test_a_worker_sees_all_gradients_older_than_s_steps(staleness, workers, steps, order):
    """The guarantee of stale synchronous parallel: at step c, all gradients of steps before c - s are in."""
    world = run_orderly(SSP(staleness), workers, steps, order)
    used = set()
    for _, replies in world.log:
        for reply in replies:
            if isinstance(reply, Update):
                used |= {(share.worker, share.step) for share in reply.shares}
            elif isinstance(reply, Begin) and reply.step < steps:
                old = {(w, k) for w in range(workers) for k in range(reply.step - staleness) if rows_of(w, k)}
                assert old <= used


@quick
@given(RULES, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_lost_doubled_and_late_messages_never_change_a_sum(rule, workers, steps, seed):
    random = Random(seed)
    world = World(rule, workers, steps)
    for _ in range(3000):
        choice = random.random()
        if world.mail and choice < 0.45:
            message = world.mail.pop(random.randrange(len(world.mail)))
            if random.random() < 0.2:  # lost
                continue
            if random.random() < 0.3:  # doubled, and the second copy is late
                world.mail.append(message)
            if isinstance(message, Begin) and message.step >= steps:
                if message.worker in world.server.workers:
                    world.tell(Leave(message.worker))  # that connection is watched: its end is not lost
            else:
                world.deliver(message)
        elif world.busy and choice < 0.7:
            world.finish(random.choice(sorted(world.busy)))
        else:
            for worker in random.sample(world.idle(), min(1, len(world.idle()))):
                if world.step_of[worker] >= 0:
                    world.mail.append(world.again(worker))
                else:  # it has never heard its first Begin: it joins anew, by a connection of its own
                    world.mail = [m for m in world.mail if m.worker != worker]
                    world.tell(Leave(worker))
                    world.tell(Join(worker))
        if not world.server.workers:
            break
    assert not world.server.workers, "no end: somebody waits for ever"
    with_rows = {key for key in world.computed if rows_of(*key)}
    assert all(world.used[key] + world.dropped[key] == 1 for key in with_rows)
    weight = Fraction(0)
    for _, replies in world.log:
        for reply in replies:
            if isinstance(reply, Update | Average):
                weight -= sum(world.computed[s.worker, s.step] for s in reply.shares) / reply.rows
    assert weight == world.weight


def begins(replies):
    return [(r.worker, r.step, r.version) for r in replies if isinstance(r, Begin)]


def started(rule, workers):
    server = Server(rule)
    assert [begins(server.handle(Join(w))) for w in range(workers)] == [[(w, 0, 0)] for w in range(workers)]
    return server


def test_backup_takes_the_first_and_drops_the_late():
    server = started(Sync(backup=1), 3)
    assert server.handle(Push(2, 0, 4)) == []
    update, *rest = server.handle(Push(0, 0, 5))
    assert [(s.worker, s.rows) for s in update.shares] == [(0, 5), (2, 4)] and update.rows == 9
    assert begins(rest) == [(0, 1, 1), (2, 1, 1)]
    assert server.handle(Push(1, 0, 6)) == [Drop(1, 0, 6), Begin(1, 1, 1)]
    assert server.tally.dropped == {1: 1} and server.tally.dropped_rows == 6


def test_empty_shards_make_no_update_and_hold_nobody_up():
    server = started(Sync(), 2)
    server.handle(Push(0, 0, 0))
    assert server.handle(Push(1, 0, 0)) == [Begin(0, 1, 0), Begin(1, 1, 0)]
    server.handle(Push(0, 1, 0))
    update, *_ = server.handle(Push(1, 1, 3))
    assert update.rows == 3 and update.version == 1


def test_async_counts_staleness_and_damps_the_rate():
    server = started(Async(damped=True), 2)
    factors = [server.handle(Push(0, k, 1))[0].rate_factor for k in range(3)]
    assert factors == [1.0, 1.0, 1.0]
    assert server.handle(Push(1, 0, 1))[0].rate_factor == 1 / 4
    assert server.tally.staleness == {0: 3, 3: 1}


def test_local_averages_parameters():
    server = started(Local(every=4), 2)
    server.handle(Push(0, 0, 10))
    assert isinstance(server.handle(Push(1, 0, 30))[0], Average)


def test_a_worker_that_leaves_holds_nobody_up_and_what_it_pushed_counts():
    server = started(Sync(), 3)
    server.handle(Push(0, 0, 1))
    server.handle(Leave(0))
    server.handle(Push(1, 0, 2))
    update, *rest = server.handle(Leave(2))
    assert [s.worker for s in update.shares] == [0, 1] and begins(rest) == [(1, 1, 1)]
    assert server.handle(Push(2, 0, 3)) == [] and server.tally.strays == 1


@pytest.mark.parametrize("rule", [Sync(), SSP(1)])
def test_a_worker_that_comes_back_redoes_its_step_but_not_a_push_that_was_taken(rule):
    server = started(rule, 2)
    server.handle(Leave(1))
    assert begins(server.handle(Join(1))) == [(1, 0, 0)]
    server = started(Sync(), 2)
    server.handle(Push(1, 0, 3))
    server.handle(Leave(1))
    assert server.handle(Join(1)) == []
    update, *rest = server.handle(Push(0, 0, 2))
    assert update.rows == 5 and begins(rest) == [(0, 1, 1), (1, 1, 1)]


def test_the_last_to_leave_takes_what_is_pending_into_an_update():
    server = started(SSP(0), 2)
    server.handle(Push(0, 0, 2))
    assert server.handle(Leave(0)) == []
    (update,) = server.handle(Leave(1))
    assert update.rows == 2


def test_pushes_that_cannot_be_are_refused():
    server = started(Sync(), 2)
    with pytest.raises(StateError, match="worker 0 pushed step 1, expected step 0 at most"):
        server.handle(Push(0, 1, 3))
    with pytest.raises(StateError, match="joined twice"):
        server.handle(Join(0))


@pytest.mark.parametrize("make", [lambda: Sync(backup=-1), lambda: SSP(-1), lambda: SSP(0.5), lambda: Local(every=0)])
def test_modes_refuse_numbers_that_make_no_sense(make):
    with pytest.raises(HyperparameterError):
        make()
