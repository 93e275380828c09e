"""PyTorch. Variants:

eager  forward, backward and optimizer step from Python, batches drawn by a permutation
func   the whole SGD step as one graph, made by torch.compile; needs a C++ compiler
loop   the same as eager without shuffling, the loss read after each step: beside parnet's manual loop
"""

from __future__ import annotations

from itertools import pairwise

from serve import Task, serve, start


def build(net: str):
    """N1, N2, N3 or 784-2048-2048-10 ("wide") without the softmax, which the loss contains."""
    from torch import nn

    if net == "N1":
        return nn.Sequential(nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 10))
    if net == "wide":
        hidden = nn.Linear(784, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU()
        return nn.Sequential(*hidden, nn.Linear(2048, 10))
    if net == "N3":
        # the samples come as rows; seen as images they are not copied
        parts = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        nn.init.xavier_uniform_(parts[1].weight)
        nn.init.zeros_(parts[1].bias)
    else:
        parts = []
    widths = (64 * 13 * 13 if net == "N3" else 784, 200, 100, 10)
    for last, (inputs, outputs) in enumerate(pairwise(widths)):
        linear = nn.Linear(inputs, outputs)
        nn.init.normal_(linear.weight, 0, inputs**-0.5)
        nn.init.zeros_(linear.bias)
        parts += [nn.BatchNorm1d(inputs, eps=1e-3, momentum=0.01), linear, *([nn.SELU()] if last < 2 else [])]
    return nn.Sequential(*parts)


def main() -> None:
    """Serve the variant asked for."""
    task = start()
    import torch

    torch.set_num_threads(task.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    x, y, model = torch.from_numpy(task.x), torch.from_numpy(task.y), build(task.net)
    kinds = {
        "eager": (eager, task.batch * task.steps),
        "func": (compiled, task.batch * task.steps),
        "loop": (loop, 500),
    }
    make, count = kinds[task.variant]
    serve(f"torch {torch.__version__}", make(task, model, x, y), count)


def eager(task: Task, model, x, y):
    """An epoch of the loop that PyTorch's tutorials teach."""
    import torch
    from torch.nn.functional import cross_entropy

    rule = torch.optim.SGD(model.parameters(), task.spec.rate)

    def epoch(_):
        order = torch.randperm(len(x))
        for step in range(task.steps):
            rows = order[step * task.batch : (step + 1) * task.batch]
            rule.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            rule.step()

    return epoch


def loop(task: Task, model, x, y):
    """500 steps, batches in order, the loss read after each."""
    import torch
    from torch.nn.functional import cross_entropy

    rule = torch.optim.SGD(model.parameters(), task.spec.rate)

    def epoch(_):
        for step in range(500):
            rows = slice(step * task.batch, (step + 1) * task.batch)
            rule.zero_grad()
            loss = cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            rule.step()
            loss.item()

    return epoch


def compiled(task: Task, model, x, y):
    """An epoch of steps, each one compiled graph: gradient and update together."""
    import torch
    from torch.nn.functional import cross_entropy

    weights = {name: value.detach() for name, value in model.named_parameters()}
    averages = {name: value.detach() for name, value in model.named_buffers()}

    @torch.compile(dynamic=False)
    def step(weights, averages, inputs, labels):
        def loss(weights, averages):
            moved = {name: value.clone() for name, value in averages.items()}  # a gradient may change no input
            return cross_entropy(torch.func.functional_call(model, (weights, moved), (inputs,)), labels), moved

        gradients, moved = torch.func.grad(loss, has_aux=True)(weights, averages)
        for name, value in weights.items():
            value.sub_(task.spec.rate * gradients[name])
        for name, value in averages.items():
            value.copy_(moved[name])

    def epoch(_):
        order = torch.randperm(len(x))
        with torch.no_grad():
            for at in range(task.steps):
                rows = order[at * task.batch : (at + 1) * task.batch]
                step(weights, averages, x[rows], y[rows])

    return epoch


if __name__ == "__main__":
    main()
