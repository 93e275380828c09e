"""PyTorch's ResNet-50, channels last: inference in eval mode, eager or compiled and frozen, and the eager training step."""

from __future__ import annotations

from resnet import CLASSES, RATE, blocks, images, labels, serve_batches
from serve import arguments


def build():
    """The network without the softmax."""
    from torch import nn
    from torch.nn.functional import relu

    def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1):
        norm = nn.BatchNorm2d(outputs, eps=1.001e-5, momentum=0.01)
        return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2), norm)

    class Block(nn.Module):
        """Three convolutions beside a short cut."""

        def __init__(self, inputs: int, filters: int, stride: int, widens: bool):
            super().__init__()
            self.first, self.second = conv(inputs, filters, 1, stride), conv(filters, filters, 3)
            self.third = conv(filters, 4 * filters)
            self.beside = conv(inputs, 4 * filters, 1, stride) if widens else nn.Identity()

        def forward(self, x):
            own = relu(self.first(x), inplace=True)
            own = relu(self.second(own), inplace=True)
            return relu(self.third(own).add_(self.beside(x)), inplace=True)

    head = [conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, CLASSES)]
    return nn.Sequential(*head, *[Block(*block) for block in blocks()], *tail)


def compiled(model):
    """The model with its weights as constants, so that batch normalisation is folded into the convolutions."""
    import torch
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return torch.compile(model, dynamic=False)


def main() -> None:
    """Serve batches."""
    given = arguments()
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(given.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    rule = torch.optim.SGD(model.parameters(), RATE)
    infer = compiled(model) if given.variant == "compiled" else model

    def make(task: str, batch: int):
        x, y = torch.from_numpy(images(batch)).permute(0, 3, 1, 2), torch.from_numpy(labels(batch))
        assert x.is_contiguous(memory_format=torch.channels_last)

        def predict() -> None:
            model.eval()
            with torch.inference_mode():
                torch.softmax(infer(x), 1)

        def train() -> None:
            model.train()
            rule.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            rule.step()
            loss.item()

        return {"predict": predict, "train": train}[task]

    serve_batches(f"torch {torch.__version__}", make)


if __name__ == "__main__":
    main()
