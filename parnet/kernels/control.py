"""The control words: what changes from batch to batch. Stage: kernels, lowest. Must not know: any kernel.

Each thread has its own row of them, equal in all threads but for PART. Words that hold an address are set when
an executor opens a run; STEP, FIRST and ROWS by the native loop, once a batch.
"""

from __future__ import annotations

WIDTH = 32

#: index of the batch in the run, from 0
STEP = 0
#: position in ORDER of the batch's first row
FIRST = 1
#: rows of this batch; the last one may be smaller
ROWS = 2
#: rows of a full batch
BATCH = 3
#: rows of the run: where the last batch ends
TOTAL = 4
#: address of int64 row numbers of the data set, in the order of the run; 0 = in order
ORDER = 5
#: address of the inputs (uint8, float32 or float64, as the gather step was planned)
X = 6
#: address of the targets (T)
Y = 7
#: address of the sample weights (T)
WEIGHT = 8
#: address of the outputs of predict (T)
OUT = 9
#: address of the rates of the optimizer, RATES_PER_STEP float64 a batch
RATES = 10
#: address of float64 sums that losses and metrics add to
SUMS = 11
#: address of float64 losses, one a batch
LOSSES = 12
#: 0: weight gradients overwrite; 1: they are added to what is there
ACCUMULATE = 13
#: number of the epoch, keys the random numbers
EPOCH = 14
#: seed of the run, keys the random numbers
SEED = 15
#: address of an int64 shared by all parts, set to 1 by the loss step when the loss is not finite: the run ends there
STOP = 16
#: address of this part's own scratch memory (T)
SCRATCH = 17
#: cycles this part waited for others in the run
WAITED = 18
#: cycles this part was in the run
CYCLES = 19

RATES_PER_STEP = 4
