"""What a rank of an MPI job in `bench.chaos` does: train on from the last checkpoint.

parnet launch -n 2 bench/chaos_ranks.py model.parnet abort
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import parnet as pn
from bench.chaos import BATCH, ROWS, model, train

#: seconds after which a stopped rank is given up
STALL_S = 3.0


def main() -> None:
    """Train, saving each epoch."""
    warnings.filterwarnings("ignore", ".*normalises each shard")
    path, how = Path(sys.argv[1]), sys.argv[2]
    strategy = pn.strategy.MPI(shards=4, on_failure=how, threads=1, stall_warning_s=STALL_S / 2, stall_limit_s=STALL_S)
    net = pn.load_model(path) if path.exists() else model()
    train(net, strategy, pn.callbacks.ModelCheckpoint(path), begun=net.optimizer.iterations // -(-ROWS // BATCH))


if __name__ == "__main__":
    main()
