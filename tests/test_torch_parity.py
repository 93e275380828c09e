"""The same numbers as PyTorch: forward, backward and one step of SGD and Adam, for the networks of the measurements."""

import math

import numpy as np
import pytest
from nets import images, n1, n2, n3
from tolerance import close

from parnet import losses, optimizers

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

ROWS, RATE = 32, 0.05
#: all sums of a pass one after another: inputs, hidden layers, batch (its statistics too)
LENGTH = {
    "n1": 784 + 100 + 10 + ROWS,
    "n2": 784 + 128 + 64 + 10 + 3 * ROWS,
    "n3": 9 + 26 * 26 * ROWS + 64 * 13 * 13 + 200 + 100 + 10 + 3 * ROWS,
}


class Norm(torch.nn.Module):
    """Keras's batch normalisation: the moving variance is that of the biased variance."""

    def __init__(self, gamma, beta, epsilon):
        super().__init__()
        self.gamma, self.beta, self.epsilon = torch.nn.Parameter(gamma), torch.nn.Parameter(beta), epsilon

    def forward(self, x):
        mean, variance = x.mean(0), x.var(0, unbiased=False)
        return (x - mean) / torch.sqrt(variance + self.epsilon) * self.gamma + self.beta


class Masked(torch.nn.Module):
    """Dropout with a given mask: the engine's own random numbers are tested elsewhere."""

    def __init__(self):
        super().__init__()
        self.mask = 1.0

    def forward(self, x):
        return x * self.mask


class Turn(torch.nn.Module):
    """Channels last, as the engine flattens them."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


def filters(weights):
    kernel, bias = (torch.tensor(w.astype(np.float64)) for w in weights)
    layer = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], dtype=torch.float64)
    layer.weight = torch.nn.Parameter(kernel.permute(3, 2, 0, 1).contiguous())
    layer.bias = torch.nn.Parameter(bias)
    return layer


def norm(layer):
    return Norm(*(torch.tensor(w.astype(np.float64)) for w in layer.get_weights()[:2]), layer.epsilon)


def dense(weights):
    kernel, bias = (torch.tensor(w.astype(np.float64)) for w in weights)
    layer = torch.nn.Linear(*kernel.shape, dtype=torch.float64)
    layer.weight, layer.bias = torch.nn.Parameter(kernel.T.contiguous()), torch.nn.Parameter(bias)
    return layer


def twin(name, model):
    """The model's layers in PyTorch, with its weights, in float64; the logits of the last layer come out."""
    if name == "n1":
        first, last = (dense(layer.get_weights()) for layer in model.layers)
        return torch.nn.Sequential(first, torch.nn.Sigmoid(), last)
    if name == "n3":
        first, _, _, b1, d1, b2, d2, b3, d3 = model.layers
        image = [filters(first.get_weights()), torch.nn.ReLU(), torch.nn.MaxPool2d(2), Turn(), torch.nn.Flatten()]
        hidden = [norm(b1), dense(d1.get_weights()), torch.nn.SELU(), norm(b2), dense(d2.get_weights()), torch.nn.SELU()]
        return torch.nn.Sequential(*image, *hidden, norm(b3), dense(d3.get_weights()))
    kinds = {type(layer).__name__: layer for layer in model.layers}
    assert set(kinds) == {"Flatten", "Rescaling", "Dense", "BatchNormalization", "Dropout", "Activation"}
    d1, b1, d2, b2, d3 = [layer for layer in model.layers if type(layer).__name__ in ("Dense", "BatchNormalization")]
    return torch.nn.Sequential(
        dense(d1.get_weights()),
        torch.nn.SELU(),
        norm(b1),
        Masked(),
        dense(d2.get_weights()),
        torch.nn.GELU(),
        norm(b2),
        torch.nn.ReLU(),
        dense(d3.get_weights()),
    )


def made(name, dtype, rng):
    """Model, its twin, inputs for each, labels. The model has gone forward once, so that its mask of dropout is known."""
    model = {"n1": n1, "n2": n2, "n3": n3}[name](dtype=dtype)
    x, y = images(rng, ROWS)
    shape = {"n1": (784,), "n3": (28, 28, 1)}.get(name)
    given = (x.reshape(ROWS, *shape) / 255).astype(dtype) if shape else x
    other = twin(name, model)
    seen = torch.tensor(given.astype(np.float64) if shape else x.reshape(ROWS, 784) / 255.0)
    seen = seen.permute(0, 3, 1, 2) if name == "n3" else seen
    output = model(given)
    if name == "n2":
        program = model.session._manual.program
        mask = next(b for key, b in program.plan.buffers.items() if key.endswith("/mask"))
        other[3].mask = torch.tensor(program.view(mask, ROWS).astype(np.float64))
        kept = float((other[3].mask > 0).double().mean())
        assert abs(kept - 0.7) < 5 * math.sqrt(0.21 / other[3].mask.numel())
    return model, output, other, seen, torch.tensor(y), y


def arrays(other):
    """PyTorch's parameters, in the engine's order and layout."""
    found = []
    for layer in other:
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            found += [(layer.weight, True), (layer.bias, False)]
        elif isinstance(layer, Norm):
            found += [(layer.gamma, False), (layer.beta, False)]
    return found


def plain(tensor, turned):
    array = tensor.detach().numpy()
    return np.moveaxis(array, (0, 1), (-1, -2)) if turned else array


def trainable(model):
    return [p for p in model.weights if "moving" not in p.name]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_outputs_loss_gradients_and_one_step_are_pytorchs(name, rule, dtype, rng):
    model, output, other, seen, labels, y = made(name, dtype, rng)
    logits = other(seen)
    close(np.array(output), torch.softmax(logits, 1).detach().numpy(), dtype, LENGTH[name], 1.0, "outputs")
    loss = torch.nn.functional.cross_entropy(logits, labels)
    mine = losses.get("sparse_categorical_crossentropy")(output, y)
    close(mine.item(), loss.item(), dtype, LENGTH[name], 1 + logits.abs().max().item(), "loss")

    # epsilon: PyTorch divides by sqrt(v) / sqrt(1 - b2^t) + e, the engine in Keras's order by sqrt(v) + e before that
    # correction: e (PyTorch) = e (engine) / sqrt(1 - b2) in the first step
    epsilon = 0.01
    kinds = {
        "sgd": (lambda p: optimizers.SGD(p, RATE), lambda p: torch.optim.SGD(p, RATE)),
        "adam": (
            lambda p: optimizers.Adam(p, RATE, beta_2=0.99, epsilon=epsilon),
            lambda p: torch.optim.Adam(p, RATE, betas=(0.9, 0.99), eps=epsilon / math.sqrt(1 - 0.99)),
        ),
    }
    own, theirs = kinds[rule][0](model.parameters()), kinds[rule][1](other.parameters())
    loss.backward()
    mine.backward()
    for parameter, (tensor, turned) in zip(trainable(model), arrays(other), strict=True):
        slope = plain(tensor.grad, turned)
        close(parameter.grad, slope, dtype, LENGTH[name], 10 * (1 + np.abs(slope).max()), parameter.name)
    before = [p.numpy() for p in trainable(model)]
    own.step()
    theirs.step()
    steep = RATE * (1 if rule == "sgd" else math.sqrt(1 - 0.99) / (1 - 0.9) / epsilon)
    for parameter, old, (tensor, turned) in zip(trainable(model), before, arrays(other), strict=True):
        wanted, slope = plain(tensor, turned), plain(tensor.grad, turned)
        size = 1 + steep * 10 * (1 + np.abs(slope).max())
        close(parameter.numpy(), wanted, dtype, LENGTH[name], size, parameter.name)
        assert not np.array_equal(parameter.numpy(), old)
