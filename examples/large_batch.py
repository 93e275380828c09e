"""Large batches: what they cost, and how a larger learning rate with a warm-up makes up for it.

python examples/large_batch.py                  on scikit-learn's digits, nothing to download
python examples/large_batch.py --batch 256      with another size of the large batch

Many workers want large batches, so that each has enough to do. But an epoch of batches that are sixteen times as large makes
a sixteenth of the updates, and the network learns less from it. Updates by the mean of sixteen times as many pictures are
less noisy, so they may be larger: `pn.schedules.scale_lr` multiplies the rate by sixteen. In the first steps, when the
gradient changes fast, that may be too much, so the rate grows to it along a line (Goyal et al. 2017, arXiv 1706.02677).
"""

import argparse

import parnet as pn
from parnet import layers as L

SMALL, RATE, EPOCHS, WARM_EPOCHS = 16, 0.03, 20, 3


def network():
    layers = [L.Flatten(input_shape=(8, 8)), L.Dense(64, activation="relu"), L.Dense(64, activation="relu")]
    return pn.Sequential([*layers, L.Dense(10, activation="softmax")], seed=3)  # the same first weights each time


def trained(data, batch_size, rate):
    """Loss after each epoch, and accuracy on pictures that were not trained on."""
    (x_train, y_train), test = data
    net = network()
    net.compile(pn.optimizers.SGD(rate, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    history = net.fit(x_train, y_train, batch_size=batch_size, epochs=EPOCHS, verbose=0)
    return history.history["loss"], net.evaluate(*test)[1]


def main():
    parser = argparse.ArgumentParser(description="Large batches with and without a larger learning rate.")
    parser.add_argument("--batch", type=int, default=256, help="pictures in a large batch")
    large = parser.parse_args().batch
    (x_train, y_train), (x_test, y_test) = pn.datasets.digits.load_data()
    data = (x_train / 16, y_train), (x_test / 16, y_test)
    updates = -(-len(x_train) // large)
    ways = {
        f"batch {SMALL}": (SMALL, RATE),
        f"batch {large}, the same rate": (large, RATE),
        f"batch {large}, scaled rate": (large, pn.schedules.scale_lr(RATE, large, reference=SMALL)),
        f"batch {large}, scaled rate, warm-up": (
            large,
            pn.schedules.scale_lr(RATE, large, reference=SMALL, warmup_steps=WARM_EPOCHS * updates),
        ),
    }
    print(f"{EPOCHS} epochs of {len(x_train)} pictures; a batch of {large} makes {updates} updates an epoch")
    print(f"{'':34} loss after 1, 5 and {EPOCHS} epochs    test accuracy")
    for name, (batch_size, rate) in ways.items():
        losses, accuracy = trained(data, batch_size, rate)
        print(f"{name:34} {losses[0]:9.3f} {losses[4]:9.3f} {losses[-1]:9.3f} {accuracy:16.3f}")


if __name__ == "__main__":
    main()
