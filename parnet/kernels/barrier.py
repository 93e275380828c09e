"""Where parts wait for each other: threads of one process, and threads of several. Stage: kernels. Must not know: steps.

Threads of one process meet at a counter. Processes meet at counters of their own, each written by one part alone: no dead
process can hold anything. Their words lie in shared memory: word 0 is raised by whoever watches over the processes when
one has died, and ends every wait; word LINE * (1 + p) counts the meetings that part p has reached.
"""

from __future__ import annotations

from .declare import device
from .entries import LINE, SPINS
from .intrinsics import at, atomic_add, atomic_load, atomic_store, int64_at, nap, pause, yield_core

#: offers after which it sleeps between two looks: a process that has been stopped must not cost its peers a core each
PATIENCE = 4000
NAP_US = 50


@device
def barrier(state, parts, abort):
    """Wait until all threads are here. state: int64[16], word 0 counts arrivals, word 8 rounds (a cache line apart).

    abort: address of a word that ends the wait when it is raised, or 0. Returns whether it was.
    Source: the sense-reversing central barrier of Mellor-Crummey & Scott 1991, algorithm 1, with a counter as sense.
    """
    round_word = at(state, 8)
    now = atomic_load(round_word)
    if atomic_add(state, 1) == parts - 1:
        atomic_store(state, 0)
        atomic_store(round_word, now + 1)
        return False
    spins = 0
    while atomic_load(round_word) == now:
        pause()
        spins += 1
        if spins > SPINS:
            if abort and atomic_load(int64_at(abort)):
                return True
            yield_core()
    return False


@device
def meet(words, me, parts, spins):
    """Wait until all parts of all processes are here. Returns whether the wait was ended instead.

    words: the shared words; spins: looks before the core is offered to others.
    """
    mine = at(words, LINE * (1 + me))
    now = mine[0] + 1
    atomic_store(mine, now)
    for other in range(parts):
        word, looks = at(words, LINE * (1 + other)), 0
        while atomic_load(word) < now:
            pause()
            looks += 1
            if looks > spins:
                if atomic_load(words):
                    return True
                if looks > spins + PATIENCE:
                    nap(NAP_US)
                else:
                    yield_core()
    return False
