"""PyTorch's DistributedDataParallel over gloo: as many processes as the variant says, one thread each, beside our workers.

One process runs without it. Each takes its share of the rows of every batch, so that a step is that of one process.
"""

from __future__ import annotations

import os
import socket

from serve import serve, start
from torch_peer import build


def main() -> None:
    """Serve epochs on processes that stay."""
    task = start()
    import torch
    import torch.multiprocessing as processes

    world, port = int(task.variant), free_port()
    x, y = torch.from_numpy(task.x).share_memory_(), torch.from_numpy(task.y).share_memory_()
    context, ends = processes.get_context("spawn"), []
    for rank in range(world):
        ours, theirs = context.Pipe()
        arguments = (theirs, rank, world, port, task.net, task.spec.rate, task.batch, task.steps, x, y)
        context.Process(target=work, args=arguments, daemon=True).start()
        theirs.close()  # so that a process that fails is noticed
        ends.append(ours)

    def epoch(_):
        for end in ends:
            end.send("epoch")
        for end in ends:
            end.recv()

    for end in ends:
        end.recv()
    serve(f"torch {torch.__version__}", epoch, task.batch * task.steps)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def work(end, rank, world, port, net, rate, batch, steps, x, y) -> None:
    """A process's life: an epoch for each message, until the other end is closed."""
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {own[rank % len(own)]})
    import torch
    from torch.nn.functional import cross_entropy

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build(net)
    if world > 1:
        place = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=world)
        model = torch.nn.parallel.DistributedDataParallel(model)
    rule = torch.optim.Adam(model.parameters()) if net == "wide" else torch.optim.SGD(model.parameters(), rate)
    end.send("ready")
    while True:
        try:
            end.recv()
        except EOFError:
            return
        order = torch.randperm(len(x))
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch][rank::world]
            rule.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            rule.step()
        end.send("done")


if __name__ == "__main__":
    main()
