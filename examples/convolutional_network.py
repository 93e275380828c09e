"""A convolutional network: what filters see, what pooling keeps, and what happens when test data have another scale.

python examples/convolutional_network.py                 on scikit-learn's digits (8 x 8), nothing to download
python examples/convolutional_network.py --data mnist    on MNIST (28 x 28)
python examples/convolutional_network.py --rows 500      on so many training pictures

A dense layer has a weight for each pixel and neuron: for a photograph of 1920 x 1079 pixels and 200 neurons over a billion.
A convolution looks at 3 x 3 pixels at a time with the same nine weights everywhere: whatever it finds, it finds anywhere.
"""

import argparse
import warnings

import numpy as np

import parnet as pn
from parnet import keras


def show_filters_by_hand(picture):
    """Two filters made by hand: one answers to vertical edges, one to horizontal ones."""
    layer = keras.layers.Conv2D(2, kernel_size=3, use_bias=False, input_shape=(*picture.shape, 1))
    model = keras.Sequential([layer])
    edges = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], float)
    layer.set_weights([np.stack([edges, edges.T], axis=-1).reshape(3, 3, 1, 2)])
    maps = model.predict(picture[None, :, :, None])
    strength = abs(maps[0]).sum(axis=(0, 1))
    print(f"filters by hand: vertical edges answer {strength[0]:.1f}, horizontal ones {strength[1]:.1f}")


def network(side):
    return keras.Sequential(
        [
            keras.layers.Conv2D(64, kernel_size=3, activation="relu", input_shape=(side, side, 1)),
            keras.layers.MaxPooling2D(),  # of each 2 x 2 numbers the largest
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(200, activation="selu", kernel_initializer="lecun_normal"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(100, activation="selu", kernel_initializer="lecun_normal"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description="A convolutional network that reads digits.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--rows", type=int, default=None, help="training pictures, all by default")
    parser.add_argument("--epochs", type=int, default=None, help="passes over them: 20, of MNIST 5")
    chosen = parser.parse_args()
    source, white = (pn.datasets.mnist, 255.0) if chosen.data == "mnist" else (pn.datasets.digits, 16.0)
    (x_train, y_train), (x_test, y_test) = source.load_data()
    x_train, y_train, side = x_train[: chosen.rows] / white, y_train[: chosen.rows], x_train.shape[1]
    show_filters_by_hand(x_train[1])

    # Convolutions read (rows, height, width, channels); grey pictures have one channel.
    x_train = x_train.reshape(-1, side, side, 1)
    x_test = x_test.reshape(-1, side, side, 1)
    pn.set_seed(0)
    model = network(side)
    model.summary()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.SGD(lr=0.05), metrics=["accuracy"])
    # Batch normalisation keeps averages for later; they need some hundred batches to settle, many epochs of few pictures.
    model.fit(x_train, y_train, epochs=chosen.epochs or (20 if chosen.data == "digits" else 5), verbose=2)
    loss, accuracy = model.evaluate(x_test / white, y_test)
    print(f"test pictures from 0 to 1, as in training: loss {loss:.4f}, accuracy {accuracy:.4f}")

    # The same pictures from 0 to 255 are other numbers to the network. It answers, but badly; parnet warns.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loss, accuracy = model.evaluate(x_test, y_test)
    print(f"test pictures from 0 to {white:.0f}: loss {loss:.4f}, accuracy {accuracy:.4f}")
    print(f"the warning: {told[0].message}")


if __name__ == "__main__":
    main()
