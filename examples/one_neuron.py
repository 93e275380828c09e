"""One neuron fits a line: y^ = th1 x + th0, by gradient descent on the mean squared error.

With n points and E = 1/n sum (y^ - y)^2 the two gradients are

    dE/dth1 = 2/n sum (y^ - y) x        dE/dth0 = 2/n sum (y^ - y)

parnet's backward pass finds them; the formulas, worked out beside it, agree.
"""

import numpy as np

import parnet as pn
from parnet import layers as L


def main():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (200, 1))
    y = 3 * x - 2 + rng.normal(0, 0.1, x.shape)  # the line to find, with noise

    neuron = pn.Sequential([L.Dense(1, input_shape=(1,))], seed=0)
    th1, th0 = neuron.layers[0].kernel, neuron.layers[0].bias
    loss_fn, optimizer = pn.losses.MeanSquaredError(), pn.optimizers.SGD(neuron.parameters(), lr=0.3)

    print("step     error      th1      th0   dE/dth1 (by formula)   dE/dth0 (by formula)")
    for step in range(41):
        optimizer.zero_grad()
        prediction = neuron(x)
        loss = loss_fn(prediction, y)
        loss.backward()
        error = np.asarray(prediction) - y
        by_hand = 2 * (error * x).mean(), 2 * error.mean()
        if step % 5 == 0:
            print(
                f"{step:4}  {loss.item():8.5f} {np.asarray(th1)[0, 0]:8.4f} {np.asarray(th0)[0]:8.4f}"
                f"   {th1.grad[0, 0]:8.5f} ({by_hand[0]:8.5f})   {th0.grad[0]:8.5f} ({by_hand[1]:8.5f})"
            )
        assert np.allclose([th1.grad[0, 0], th0.grad[0]], by_hand, atol=1e-5)
        optimizer.step()

    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    print(f"found: {np.asarray(th1)[0, 0]:.4f} x {np.asarray(th0)[0]:+.4f}")
    print(f"least squares: {slope:.4f} x {offset:+.4f}")


if __name__ == "__main__":
    main()
