"""The same numbers as PyTorch: image layers of random shapes, their outputs and the gradients of weights and inputs."""

import numpy as np
import pytest
from tolerance import close

import parnet as pn
from parnet import layers as L

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch
F = torch.nn.functional

DRAWS = 12


def padded(x, taps, steps, dilation, same, fill=0.0):
    """An image (rows, C, height, width) with the pixels around it that "same" asks for."""
    if not same:
        return x
    sides = []
    for size, n, step, d in zip(x.shape[2:], taps, steps, dilation, strict=True):
        total = max(0, (-(-size // step) - 1) * step + (n - 1) * d + 1 - size)
        sides.append((total // 2, total - total // 2))
    return F.pad(x, (*sides[1], *sides[0]), value=fill)


def two(rng, most):
    return tuple(int(n) for n in rng.integers(1, most + 1, 2))


def window(rng):
    """Arguments of a layer: taps, steps, padding."""
    return two(rng, 4), two(rng, 3), bool(rng.integers(2))


def convolution(rng):
    """A layer, its channels, and the same in PyTorch: (x, weights) -> y, images (rows, C, height, width)."""
    (taps, steps, same), dilation = window(rng), two(rng, 3)
    groups = int(rng.choice([1, 1, 2, 3]))
    channels, filters = (groups * int(n) for n in rng.integers(1, 30, 2))

    def theirs(x, kernel, bias):
        x = padded(x, taps, steps, dilation, same)
        return F.conv2d(x, kernel.permute(3, 2, 0, 1).contiguous(), bias, steps, 0, dilation, groups)

    return L.Conv2D(filters, taps, steps, "same" if same else "valid", dilation, groups), channels, theirs


def depthwise(rng):
    (taps, steps, same), channels, filters = window(rng), *(int(n) for n in rng.integers(1, 20, 2))

    def theirs(x, kernel, bias):
        kernel = kernel.reshape(*taps, channels * filters).permute(2, 0, 1)[:, None].contiguous()
        return F.conv2d(padded(x, taps, steps, (1, 1), same), kernel, bias, steps, 0, 1, channels)

    return L.DepthwiseConv2D(taps, steps, "same" if same else "valid", filters), channels, theirs


def largest(rng):
    (taps, steps, same), channels = window(rng), int(rng.integers(1, 40))

    def theirs(x):
        return F.max_pool2d(padded(x, taps, steps, (1, 1), same, -torch.inf), taps, steps)

    return L.MaxPooling2D(taps, steps, "same" if same else "valid"), channels, theirs


def average(rng):
    """Pixels around the image are not counted."""
    (taps, steps, same), channels = window(rng), int(rng.integers(1, 40))

    def sums(x):
        return F.avg_pool2d(padded(x, taps, steps, (1, 1), same), taps, steps)

    layer = L.AveragePooling2D(taps, steps, "same" if same else "valid")
    return layer, channels, lambda x: sums(x) / sums(torch.ones_like(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("draw", range(DRAWS))
@pytest.mark.parametrize("make", [convolution, depthwise, largest, average])
def test_layers_of_random_shapes_are_pytorchs(make, draw, dtype, rng):
    """The gradient of the input is seen through the kernel of a 1x1 convolution before the layer."""
    rng = np.random.default_rng([draw, *rng.integers(0, 1000, 2)])
    layer, channels, theirs = make(rng)
    size = tuple(int(n) for n in rng.integers(10, 18, 2))
    first = L.Conv2D(channels, 1)
    model = pn.Sequential([L.Input((*size, channels)), L.Rescaling(1.0), first, layer], dtype=dtype, seed=draw)
    model.set_weights([rng.normal(size=p.shape) * 0.3 for p in model.weights])
    weights = [torch.tensor(p.numpy().astype(np.float64), requires_grad=True) for p in model.weights]

    x = rng.normal(size=(3, *size, channels)).astype(dtype)
    inside = F.conv2d(torch.tensor(x.astype(np.float64)).permute(0, 3, 1, 2), weights[0].permute(3, 2, 0, 1), weights[1])
    wanted = theirs(inside, *weights[2:]).permute(0, 2, 3, 1)
    y = model(x)
    length = channels + (int(np.prod(weights[2].shape[:3])) if len(weights) > 2 else 16)
    close(np.asarray(y), wanted.detach().numpy(), dtype, length, length * (1 + wanted.abs().max().item()), "outputs")

    goal = rng.normal(size=y.shape).astype(dtype)
    pn.losses.MeanSquaredError()(y, goal).backward()
    F.mse_loss(wanted, torch.tensor(goal.astype(np.float64))).backward()
    for parameter, weight in zip(model.weights, weights, strict=True):
        slope = weight.grad.numpy()
        terms = length + wanted.numel()
        close(parameter.grad, slope, dtype, terms, 10 * (1 + np.abs(slope).max()), parameter.name)
