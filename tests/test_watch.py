"""What a rank makes of the beats of another, and of their absence: no ranks needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parnet.comm.process import Address, Limits, Look, look_at
from parnet.comm.watch import ALL, ELSEWHERE, GRADIENTS, LAST, LOSSES, OVER, SHRINKING, TICK_S, Beat, Neighbour

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
