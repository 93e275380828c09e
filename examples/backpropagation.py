"""Forward and backward propagation by hand: every number of a small network worked out in NumPy beside parnet's.

Two inputs, three hidden neurons, one output, all sigmoid. For one example (x, y), with layers l = 1, 2 and a0 = x:

    forward     z_l = a_(l-1) W_l + b_l,   a_l = s(z_l),   s(z) = 1 / (1 + exp(-z))
    error       E = (a2 - y)^2
    backward    d2 = 2 (a2 - y) s'(z2),    d1 = (d2 W2^T) s'(z1),    s'(z) = s(z) (1 - s(z))
    gradients   dE/dW_l = a_(l-1)^T d_l,   dE/db_l = d_l

An error goes back through the same weights that the numbers came forward through. What a weight should do is told by what
entered it (a) and by the error behind it (d). Each example proposes changes; the network makes their mean.
"""

import numpy as np

import parnet as pn
from parnet import layers as L


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(x, y, w1, b1, w2, b2):
    """The output for one example, and what it proposes for each weight."""
    z1 = x @ w1 + b1
    a1 = sigmoid(z1)
    z2 = a1 @ w2 + b2
    a2 = sigmoid(z2)
    d2 = 2 * (a2 - y) * a2 * (1 - a2)
    d1 = (d2 @ w2.T) * a1 * (1 - a1)
    return a2, [np.outer(x, d1), d1, np.outer(a1, d2), d2]


def main():
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    net = pn.Sequential(
        [L.Dense(3, activation="sigmoid", input_shape=(2,)), L.Dense(1, activation="sigmoid")], dtype="float64", seed=0
    )
    weights = net.get_weights()

    print("forward: example, output by hand, output of parnet")
    results = [by_hand(xi, yi, *weights) for xi, yi in zip(x, y, strict=True)]
    outputs = np.asarray(net(x))
    for xi, (a2, _), ours in zip(x, results, outputs, strict=True):
        print(f"  {xi}   {a2[0]:.6f}   {ours[0]:.6f}")
        assert np.isclose(a2[0], ours[0])

    loss = pn.losses.MeanSquaredError()(net(x), y)
    loss.backward()
    print(f"error, the mean over the examples: {loss.item():.6f}")
    print("backward: weight, what examples 1 to 4 propose for its first number, their mean, gradient of parnet")
    for index, parameter in enumerate(net.weights):
        proposals = np.array([changes[index] for _, changes in results])
        first = "  ".join(f"{proposal.flat[0]:9.6f}" for proposal in proposals)
        print(f"  {parameter.name:15} {first}   {proposals.mean(axis=0).flat[0]:9.6f}   {parameter.grad.flat[0]:9.6f}")
        assert np.allclose(proposals.mean(axis=0), parameter.grad)

    # The plainest check of all: move one weight a little and see how the error moves.
    step, kernel = 1e-6, net.layers[0].kernel

    def error_at(distance):
        moved = weights[0].copy()
        moved[0, 0] += distance
        kernel.assign(moved)
        return float(((np.asarray(net(x, training=False)) - y) ** 2).mean())

    gradient = kernel.grad[0, 0]
    slope = (error_at(step) - error_at(-step)) / (2 * step)
    kernel.assign(weights[0])
    print(f"first weight: slope of the error {slope:.8f}, gradient {gradient:.8f}")
    assert np.isclose(slope, gradient, rtol=1e-5)

    # Against the gradient the error falls.
    optimizer = pn.optimizers.SGD(net.parameters(), lr=1.0)
    for epoch in range(3):
        optimizer.zero_grad()
        loss = pn.losses.MeanSquaredError()(net(x), y)
        loss.backward()
        optimizer.step()
        print(f"step {epoch + 1}: error {loss.item():.6f}")


if __name__ == "__main__":
    main()
