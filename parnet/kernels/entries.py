"""The words of a script: how a batch in virtual shards is run. Stage: kernels, lowest.

Plain numbers; executors write them, `script.py` reads them. Must not know: Numba, executors.

    COMPUTE   the steps of one table for one shard: its rows, its gradients, its sums
    MEET      all parts of all processes wait for each other
    TALLY     the shards' losses and metrics are folded; a loss that is not finite ends the run before weights change
    APPLY     the steps that come once a batch: fold the gradients, update the weights; cut over all parts of all processes
"""

from __future__ import annotations

COMPUTE, MEET, TALLY, APPLY = 1, 2, 3, 4
#: words of an entry: kind, table, steps, memory, shard, a flag, and the place of its first stamp in a recorded batch, see
#: `tracing.py`. The flag of COMPUTE: the shard's sums start from zero here; of APPLY: its time counts as the update's.
ENTRY, E_LINE = 8, 6

#: shards, and float64 sums that each has
H_SHARDS, H_WIDTH = 0, 1
#: address of the sums (2, shards, width): batches take turns, so that nobody clears what another still reads
H_SUMS = 2
#: addresses of the run's sums and losses, and of the stop flag
H_TOTALS, H_LOSSES, H_STOP = 3, 4, 5
#: gradients are added to what is there
H_ACCUMULATE = 6
#: first part of this process among all parts, how many there are, and the address of the words where processes meet
H_PART, H_PARTS, H_WORDS = 7, 8, 9
#: address of two words that stand in for a shard's stop flag and loss
H_SPARE = 10
#: looks of a process at a meeting before it offers its core to others
H_SPINS = 11
HEADER = 16

#: processes meet at counters, each written by one part alone: words from one to the next, two cache lines, which processors
#: fetch in pairs. Word 0 of all is raised when a process has died; part p counts its meetings in word LINE * (1 + p).
LINE = 16
#: looks of a part that waits before it offers its core to others, so that more threads than cores are slow and not stuck
SPINS = 4000
#: shards at most: the levels of their tree must fit the scratch memory
MOST_SHARDS = 64


def rows_before(rows, shard, shards):
    """How many of the rows of a batch lie in the shards before that one."""
    return rows * shard // shards


def rows_in(rows, shard, shards):
    """How many rows of the batch a shard has."""
    return rows * (shard + 1) // shards - rows * shard // shards
