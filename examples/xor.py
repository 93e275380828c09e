"""Why a network needs a non-linearity: exclusive or.

No line parts the true from the false points of XOR, so layers without an activation, which can only draw one,
get at most 3 of 4 right. A hidden layer of neurons that fire or not solves it.
"""

import numpy as np

import parnet as pn
from parnet import layers as L

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype="float32")
Y = np.array([[0], [1], [1], [0]], dtype="float32")


def train(hidden):
    """A network with that hidden layer, trained on the four points. Returns its four outputs."""
    model = pn.Sequential([L.Input((2,)), hidden, L.Dense(1, activation="sigmoid")], seed=0)
    model.compile(pn.optimizers.Adam(lr=0.05), "binary_crossentropy")
    model.fit(X, Y, epochs=500, batch_size=4, verbose=0)
    return model.predict(X)[:, 0]


def main():
    print("inputs             " + "   ".join(f"{a:.0f} {b:.0f}" for a, b in X))
    print("XOR                " + "   ".join(f"{y:3.0f}" for y in Y[:, 0]))
    for activation in ("linear", "sigmoid", "tanh"):
        outputs = train(L.Dense(4, activation=activation))
        right = int(((outputs > 0.5) == (Y[:, 0] > 0.5)).sum())
        print(f"hidden {activation:12}" + "  ".join(f"{p:.2f}" for p in outputs) + f"   {right} of 4 right")


if __name__ == "__main__":
    main()
