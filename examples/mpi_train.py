"""One training on several processes or machines, by MPI: every rank runs this script (pip install 'parnet[mpi]').

parnet launch -n 2 examples/mpi_train.py            two ranks on this machine
sbatch examples/slurm_job.sh                        64 ranks of a cluster, see there

The data lies in files that each rank opens as memory maps, so that it reads the rows of its own shards alone. Rank 0 shows
progress and saves; after a crash the same command goes on from the last checkpoint, on any number of ranks.
"""

import sys
from pathlib import Path

import numpy as np

import parnet as pn
from parnet import layers as L


def make_files(folder):
    """Pictures of noise with a bright quarter, whose number is the class: 4096 of 16 x 16."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 4096)
    pictures = rng.integers(0, 160, (4096, 16, 16), dtype=np.uint8)
    for quarter in range(4):
        row, column = 8 * (quarter // 2), 8 * (quarter % 2)
        pictures[labels == quarter, row : row + 8, column : column + 8] += 40
    np.save(folder / "x.npy", pictures)
    np.save(folder / "y.npy", labels)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "mpi_run")
    strategy = pn.strategy.MPI(shards=16)  # the same weights on 1 to 16 ranks
    if strategy.leads:
        folder.mkdir(exist_ok=True)
        make_files(folder)
    strategy.wait()  # until the files are there
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")

    epochs, checkpoint = 4, folder / "checkpoint.parnet"
    done = 0
    if checkpoint.exists():  # on a file system that all ranks see
        model = pn.load_model(checkpoint)
        done = model.optimizer.iterations // (len(x) // 256)
    else:
        layers = [L.Flatten(input_shape=(16, 16)), L.Rescaling(1 / 255), L.Dense(64, activation="relu")]
        model = pn.Sequential([*layers, L.Dense(4, activation="softmax")], seed=0)
        model.compile(pn.optimizers.Adam(0.003), "sparse_categorical_crossentropy", ["accuracy"])
    saved = pn.callbacks.ModelCheckpoint(checkpoint)
    model.fit(x, y, batch_size=256, epochs=max(epochs, done), initial_epoch=done, callbacks=[saved], strategy=strategy)

    loss, accuracy = model.evaluate(x, y, batch_size=256, strategy=strategy)
    if strategy.leads:
        print(f"ranks: {strategy.ranks.size}, loss: {loss:.4f}, accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
