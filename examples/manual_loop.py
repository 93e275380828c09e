"""PyTorch style: the training loop by hand, and a look at the gradients it makes.

The loop does what `fit` does, step by step: zero the gradients, forward, loss, backward, update.
"""

import parnet as pn
from parnet import layers as L


def main():
    (x_train, y_train), (x_test, y_test) = pn.datasets.digits.load_data()
    pn.set_seed(0)
    net = pn.Sequential(
        [
            L.Flatten(input_shape=(8, 8)),
            L.Rescaling(1 / 16),
            L.Dense(64, activation="tanh"),
            L.Dense(10, activation="softmax"),
        ]
    )
    loss_fn = pn.losses.SparseCategoricalCrossentropy()
    optimizer = pn.optimizers.Adam(net.parameters(), lr=5e-3)

    for epoch in range(10):
        total = 0.0
        for xb, yb in pn.DataLoader(x_train, y_train, batch_size=64, shuffle=True, seed=epoch):
            optimizer.zero_grad()
            loss = loss_fn(net(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        print(f"epoch {epoch + 1:2}: loss {total / len(x_train):.4f}")

    net.eval()
    right = (net(x_test).argmax(axis=1) == y_test).mean()
    print(f"test accuracy {right:.4f} after {optimizer.iterations} updates")

    first, last = net.layers[2], net.layers[3]
    print("gradient of the last batch, largest entry:")
    for parameter in (first.kernel, first.bias, last.kernel, last.bias):
        print(f"  {parameter.name:15} {abs(parameter.grad).max():.5f}")
    report = pn.check_gradients(net, loss_fn, x_train[:4], y_train[:4])  # against finite differences, in float64
    print(f"gradients checked: {report.entries} entries, worst relative error {report.worst:.1e}")


if __name__ == "__main__":
    main()
