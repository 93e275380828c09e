"""Keras style: declare a network, fit, evaluate, plot, save, load.

python examples/quickstart.py           on scikit-learn's digits, nothing to download
python examples/quickstart.py mnist     on MNIST; so does PARNET_DATA=<folder with mnist.npz>
"""

import os
import sys

import parnet as pn
from parnet import layers as L


def main():
    mnist = "mnist" in sys.argv[1:] or "PARNET_DATA" in os.environ
    data = pn.datasets.mnist if mnist else pn.datasets.digits
    (x_train, y_train), (x_test, y_test) = data.load_data()  # uint8 pictures, class numbers
    side, white, lr = (28, 255, 0.1) if mnist else (8, 16, 0.5)

    pn.set_seed(0)
    model = pn.Sequential(
        [
            L.Flatten(input_shape=[side, side]),
            L.Rescaling(1 / white),
            L.Dense(100, activation="sigmoid"),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.summary()
    model.compile(loss="sparse_categorical_crossentropy", optimizer=pn.optimizers.SGD(lr=lr), metrics=["accuracy"])
    history = model.fit(
        x_train,
        y_train,
        epochs=10 if mnist else 20,
        batch_size=32,
        validation_split=0.05,
        callbacks=[pn.callbacks.EarlyStopping(patience=3), pn.callbacks.CSVLogger("run.csv")],
        strategy="threads",  # the same numbers as "serial", sooner
    )
    loss, accuracy = model.evaluate(x_test, y_test)
    print(f"test: loss {loss:.4f}, accuracy {accuracy:.4f}")

    pn.viz.plot_history(history, "history.png")
    pn.viz.show_pixels(x_test[0], path="digit.png")
    model.save("mlp.parnet")
    same = pn.load_model("mlp.parnet")
    print("saved and loaded:", same.evaluate(x_test, y_test) == [loss, accuracy])


if __name__ == "__main__":
    main()
