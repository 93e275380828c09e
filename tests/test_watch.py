"""What a rank makes of the beats of another, and of their absence: no ranks needed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parnet.comm.process import Address, Limits, Look, look_at
from parnet.comm.watch import (
    ALL,
    CLOCKS,
    ELSEWHERE,
    GRADIENTS,
    LAST,
    LOSSES,
    OVER,
    SHRINKING,
    TICK_S,
    Beat,
    Neighbour,
    Watch,
)

MINE = Beat(0.0, 7, GRADIENTS)
LIMITS = Limits(2.0, 5.0)


def neighbour(beats=True):
    return Neighbour(LIMITS, "rank 1", beats)


def told(other, ticks, mine=MINE, heard=lambda k: None, look=lambda k: None):
    """What is said in so many ticks: (tick, verdict)."""
    found = []
    for k in range(ticks):
        verdict = other.judge(TICK_S, mine, heard(k), look(k))
        if verdict:
            found.append((k, verdict))
    return found


def beat(place=ELSEWHERE, count=6, cpu_s=0.3):
    return lambda k: Beat(cpu_s * k, count, place)


def test_a_silent_rank_is_named_and_then_given_up():
    (warned, warning), (given_up, error) = told(neighbour(), 40, look=lambda k: Look("T", 5))
    assert (warned + 0) * TICK_S <= LIMITS.warning_s < (warned + 2) * TICK_S and not warning.ends
    assert given_up * TICK_S <= LIMITS.end_s < (given_up + 2) * TICK_S and error.ends
    assert "no sign of life for 2 s: it is stopped" in warning.words and "exchange 7, gradients of a batch" in warning.words
    assert "no sign of life for 5 s: it is stopped" in error.words


def test_a_rank_that_is_back_is_said_to_be():
    other = neighbour()
    assert len(told(other, 6)) == 1
    other.judge(TICK_S, MINE, Beat(0, 7, GRADIENTS), None)
    assert other.judge(TICK_S, Beat(0, 7, ELSEWHERE), Beat(0, 7, ELSEWHERE), None).words == "rank 1 is back"
    assert told(other, 3) == [], "its silence is counted anew"


@pytest.mark.parametrize(
    "heard, look, words",
    [
        (beat(), lambda k: None, "busy elsewhere for 5 s"),
        (beat(cpu_s=0), lambda k: None, "has done nothing for 2 s"),
        (lambda k: None, lambda k: Look("R", k), None),  # compiled code that keeps Python from running
        (beat(GRADIENTS, 7), lambda k: Look("S", 5), None),  # it waits as well
        (beat(LOSSES, 6), lambda k: Look("S", 5), None),  # for somebody else
        (beat(count=9), lambda k: Look("S", 5), None),  # ahead
    ],
)
def test_a_rank_that_lives_is_never_given_up(heard, look, words):
    found = [verdict for _, verdict in told(neighbour(), 400, heard=heard, look=look)]
    assert not any(verdict.ends for verdict in found)
    assert [words in verdict.words for verdict in found][:1] == ([True] if words else [])


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.sampled_from([ELSEWHERE, GRADIENTS])), max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_beats_that_come_in_time_end_nothing(story):
    other, cpu_s = neighbour(), 0.0
    for silent, works, place in story:
        cpu_s += works
        for k in range(silent + 1):
            heard = None if k < silent else Beat(cpu_s, 6 if place == ELSEWHERE else 7, place)
            verdict = other.judge(TICK_S, MINE, heard, None)
            assert verdict is None or not verdict.ends


def test_a_rank_that_will_never_come_is_told_of_soon():
    over = told(neighbour(), 2, heard=beat(OVER, 6))[0][1]
    assert over.ends and "rank 1 has come to the end of its script, while others wait for it in exchange 7" in over.words
    other = told(neighbour(), 2, heard=beat(ALL, 7))[0][1]
    assert other.ends and "is in exchange 7, what all ranks tell, while others are in exchange 7, gradients" in other.words
    assert told(neighbour(), 2, heard=beat(OVER, 7)) == [], "it was here"


def test_ranks_that_go_on_without_another_come_from_different_exchanges():
    assert told(neighbour(), 2, Beat(0, 7, SHRINKING), beat(LOSSES, 7)) == []
    assert told(neighbour(), 2, MINE, beat(SHRINKING, 7)) == []


def test_nobody_is_looked_after_but_in_an_exchange():
    assert told(neighbour(), 400, Beat(0, 7, ELSEWHERE)) == []
    assert told(neighbour(), 400, Beat(0, 7, LAST), beat()) == [], "a rank may have much to do at its end"


def test_without_beats_only_the_system_is_asked():
    busy = [verdict for _, verdict in told(neighbour(False), 400, look=lambda k: Look("S", 5))]
    assert [verdict.words for verdict in busy] == ["waiting for rank 1 in exchange 7, gradients of a batch"]
    stopped = told(neighbour(False), 400, look=lambda k: Look("T", 5))[-1][1]
    assert stopped.ends and "it is stopped" in stopped.words
    assert not any(verdict.ends for _, verdict in told(neighbour(False), 400))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_system_says_what_a_process_does():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 60
        while not look_at(process.pid).stopped and time.monotonic() < until:
            time.sleep(0.01)
        assert look_at(process.pid).words.startswith("it is stopped, by SIGSTOP")
        mine = Address.mine()
        assert Address(process.pid, mine.host, mine.numbers).look().stopped
        assert Address(process.pid, "elsewhere", mine.numbers).look() is None
    finally:
        process.kill()
        process.wait()
    assert look_at(process.pid) is None and not look_at(os.getpid()).stopped


class Request:
    """A message under way; `done` says whether MPI needs its numbers no more."""

    done = False

    def Test(self):
        return self.done


class Messages:
    """Stands for mpi4py and a communicator: what was sent, in order; nothing comes."""

    Exception = OSError
    THREAD_MULTIPLE = 3

    def __init__(self):
        self.sent = []

    def Query_thread(self):
        return self.THREAD_MULTIPLE

    def Is_finalized(self):
        return False

    def Isend(self, words, rank, tag):
        self.sent.append((Request(), weakref.ref(words), words.tolist()))
        return self.sent[-1][0]

    def Iprobe(self, rank, tag):
        return False


@pytest.fixture
def watch():
    messages = Messages()
    watch = Watch(messages, 0)
    try:
        yield watch, messages
    finally:
        with watch._turn:  # not amid a beat
            watch._comm = None
        watch.close()


def at_each_instruction(function, act, call, *arguments):
    """Call it, and do something else before each instruction of a function in there, as another thread might."""

    def trace(frame, event, argument):
        if frame.f_code is not function.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call(*arguments)
    finally:
        sys.settrace(before)


def test_a_beat_never_tells_the_count_of_one_exchange_with_the_place_of_another(watch):
    watch, places, seen = watch[0], (LOSSES, GRADIENTS, ALL, LAST, CLOCKS), []

    def enter():
        watch.enter(places[(watch._mine().count + 1) % 5])

    at_each_instruction(Watch.enter, lambda: seen.append(watch._mine()), enter)
    for _ in range(20):
        seen.append(at_each_instruction(Watch._mine, enter, watch._mine))
    assert {beat.count for beat in seen} >= {0, 1} and seen[-1].count > 20
    assert all(beat.place in (ELSEWHERE, places[beat.count % 5]) for beat in seen)


def test_numbers_under_way_are_kept_until_they_have_been_sent(watch):
    watch, messages = watch
    watch.limits = Limits(1000.0, 1000.0)
    address = Address.mine()
    watch.begin(messages, 0, [address, address])
    with watch._turn:
        watch._beat()
        first = len(messages.sent)
        watch._beat()  # the last has not gone yet
        assert len(messages.sent) == first
        watch._at = 3, OVER
        watch._beat()  # this one must go
        gc.collect()
        assert len(messages.sent) == first + 1 and messages.sent[-1][2][1:] == [3, OVER]
        assert all(numbers() is not None for _, numbers, _ in messages.sent)
    watch.begin(messages, 0, [address, address])  # others, from now on
    with watch._turn:
        watch._beat()
        gc.collect()
        assert len(messages.sent) >= first + 2, "a message that never goes keeps nobody from speaking to the next"
        assert all(numbers() is not None for _, numbers, _ in messages.sent)
        for request, _, _ in messages.sent:
            request.done = True
        watch._beat()
        assert len(watch._sent) == 1
