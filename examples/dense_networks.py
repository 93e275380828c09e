"""Two dense networks that read digits, written as for Keras; only the import line is parnet's.

python examples/dense_networks.py                   on scikit-learn's digits (8 x 8), nothing to download
python examples/dense_networks.py --data mnist      on MNIST (28 x 28)
python examples/dense_networks.py --rows 500        on so many training pictures

The first network is the simplest that works: one hidden layer of 100 neurons whose sigmoid lies between 0 and 1. The second
is deeper: batch normalisation brings the numbers that enter a layer to mean 0 and deviation 1, and selu keeps them there.
"""

import argparse

import parnet as pn
from parnet import keras


def data(name, rows):
    """Training and test pictures from 0 to 1, and their digits. A network is never tested on what it was trained on."""
    source, white = (pn.datasets.mnist, 255.0) if name == "mnist" else (pn.datasets.digits, 16.0)
    (x_train, y_train), (x_test, y_test) = source.load_data()
    print(
        f"{len(x_train)} pictures of {x_train.shape[1:]} to train on, grey from 0 to {int(white)}, and {len(x_test)} to test"
    )
    return (x_train[:rows] / white, y_train[:rows]), (x_test / white, y_test)


def simple_network(side):
    """A picture becomes a row of numbers; every neuron sums all of them, each with its own weight."""
    return keras.models.Sequential(
        [
            keras.layers.Flatten(input_shape=[side, side]),
            keras.layers.Dense(100, "sigmoid"),
            keras.layers.Dense(10, "softmax"),  # ten numbers that sum to 1: how probable each digit is
        ]
    )


def deeper_network(side):
    return keras.models.Sequential(
        [
            keras.layers.Flatten(input_shape=[side, side]),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(200, activation="selu", kernel_initializer="lecun_normal"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(100, activation="selu", kernel_initializer="lecun_normal"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description="Two dense networks that read digits.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--rows", type=int, default=None, help="training pictures, all by default")
    parser.add_argument("--epochs", type=int, default=30, help="passes over them, at most")
    chosen = parser.parse_args()
    (x_train, y_train), (x_test, y_test) = data(chosen.data, chosen.rows)
    side = x_train.shape[1]
    pn.set_seed(0)

    # Training stops when the pictures held back are read no better than before; in a small set, where chance plays its
    # part, only after some epochs of that. One object serves both trainings: each starts it anew.
    small = len(x_train) < 10_000
    early_stopping = keras.callbacks.EarlyStopping(patience=5 if small else 0)
    rates = (0.5, 0.05) if small else (0.1, 0.05)  # few pictures, few updates: larger steps
    networks = (("one hidden layer", simple_network), ("two, normalised", deeper_network))
    for (title, network), lr in zip(networks, rates, strict=True):
        print(f"\n{title}")
        model = network(side)
        model.summary()
        model.compile(
            loss="sparse_categorical_crossentropy",
            optimizer=keras.optimizers.SGD(lr=lr),
            metrics=["accuracy"],
        )
        history = model.fit(
            x_train, y_train, epochs=chosen.epochs, validation_split=0.1, callbacks=[early_stopping], verbose=2
        )
        loss, accuracy = model.evaluate(x_test, y_test)
        print(f"after {len(history.epoch)} epochs, on test pictures: loss {loss:.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
