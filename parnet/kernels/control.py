"""The control words: what changes from batch to batch. Stage: kernels, lowest. Must not know: any kernel.

Each thread has its own row of them, equal in all threads but for PART. Words that hold an address are set when
an executor opens a run; STEP, FIRST and ROWS by the native loop, once a batch.
"""

from __future__ import annotations

WIDTH = 48

#: index of the batch in the run, from 0
STEP = 0
#: position in ORDER of the batch's first row
FIRST = 1
#: rows of this batch; the last one may be smaller
ROWS = 2
#: rows of a full batch
BATCH = 3
#: address of an int64 shared by all parts, set to the batch's number + 1 by the loss step when the loss is
#: not finite: the run ends there
STOP = 4
#: address of this part's own scratch memory (T)
SCRATCH = 5

# words FEED..FEED_END are set together when a feed is connected; the first two count cycles from then on
FEED = 6
#: cycles this part waited for others in the run
WAITED = 6
#: cycles this part was in the run
CYCLES = 7
#: address of the inputs (uint8, float32 or float64, as the gather step was planned)
X = 8
#: rows of the run: where the last batch ends
TOTAL = 9
#: address of the targets (T)
Y = 10
#: address of the sample weights (T)
WEIGHT = 11
#: address of int64 row numbers of the data set, in the order of the run; 0 = in order
ORDER = 12
#: address of the outputs of predict (T)
OUT = 13
#: address of the rates of the optimizer, RATES_PER_STEP float64 a batch: learning rate, decay, 1 where gradients are
#: gathered and the update waits for a later batch, 1 for the first batch of those whose gradients make one update
RATES = 14
#: address of float64 sums that losses and metrics add to
SUMS = 15
#: address of float64 losses, one a batch
LOSSES = 16
#: number of the epoch, keys the random numbers
EPOCH = 17
#: seed of the run, keys the random numbers
SEED = 18
#: 0: weight gradients overwrite; 1: they are added to what is there
ACCUMULATE = 19
FEED_END = 20

#: a model of several inputs or outputs: addresses of the inputs, targets and predictions behind the first, MORE words each
MORE = 7
MORE_X, MORE_Y, MORE_OUT = 20, 27, 34

#: of a batch in virtual shards: rows of the whole batch (0: ROWS), the shard at hand, and how many shards there are
WHOLE, SHARD, SHARDS = 41, 42, 43
#: cycles this part spent folding gradients, and updating weights, where that is measured
APPLIED, UPDATED = 44, 45
#: address of this part's ring of time stamps, int64, where a recording runs, else 0; see `tracing.py`
TRACE = 46
#: words before the stamps in a ring, and before those of each of its batches
RING_HEAD, BATCH_HEAD = 8, 4

RATES_PER_STEP = 4
