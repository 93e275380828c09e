"""A complete scaling report of the tutorial's networks, by one command: python examples/scaling_report.py

Measures the two dense networks and the convolutional one on MNIST, serially and with threads (and with a parameter server,
where this parnet has one), each configuration five times in fresh processes; writes report.html, tables for Markdown and
LaTeX, and the pictures. Killed and started again, it goes on where it was. A look beyond this machine's cores comes last.
"""

import argparse
from pathlib import Path

import parnet as pn
from parnet import layers as L
from parnet.study.ways import available


def mlp():
    return pn.Sequential(
        [
            L.Rescaling(1 / 255, input_shape=(28, 28)),
            L.Flatten(),
            L.Dense(100, activation="sigmoid"),
            L.Dense(10, activation="softmax"),
        ]
    )


def selu():
    hidden = []
    for units in (200, 100):
        hidden += [L.BatchNormalization(), L.Dense(units, activation="selu", kernel_initializer="lecun_normal")]
    last = [L.BatchNormalization(), L.Dense(10, activation="softmax")]
    return pn.Sequential([L.Rescaling(1 / 255, input_shape=(28, 28)), L.Flatten(), *hidden, *last])


def cnn():
    return pn.Sequential(
        [
            L.Rescaling(1 / 255, input_shape=(28, 28)),
            L.Reshape((28, 28, 1)),
            L.Conv2D(16, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description="A scaling report of the tutorial's networks.")
    parser.add_argument("--rows", type=int, default=20_000, help="samples an epoch (default: 20000)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each configuration (default: 5)")
    parser.add_argument("--output", type=Path, default=Path("scaling_report"), help="folder (default: scaling_report)")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)

    (x, y), _ = pn.datasets.mnist.load_data()
    study = pn.study.scaling(
        {"mlp": mlp, "selu": selu, "cnn": cnn},
        (x[: given.rows], y[: given.rows]),
        strategies=[name for name in ("threads", "parameter-server") if name in available()],  # 1, 2, 4, ... up to all cores
        repeats=given.repeats,
        batch_size=256,
        optimizer=pn.optimizers.SGD(0.1),
        path=given.output / "study.jsonl",
    )
    print(study.table())
    print("\n".join(f"- {line}" for line in (*study.findings(), *study.warnings())))

    for name in ("report.html", "report.md", "tables.tex"):
        study.report(given.output / name)
    for kind in ("strategies", "time"):
        study.plot(given.output / f"{kind}.svg", kind)
    counts = [result.point.workers for result in study.curves("cnn", 256)["threads"]]
    if len(counts) > 1:
        study.plot(given.output / "speedup.svg", "speedup")
        more = study.simulate("threads", [*counts, *(counts[-1] * 2**k for k in range(1, 6))], "tree", network="cnn")
        more.plot(given.output / "prediction.svg", study, network="cnn", strategy="threads")
        print(f"\nThe convolutional network on more cores than there are, by simulation:\n{more.table()}")
    print(f"\nReport: {given.output / 'report.html'}")


if __name__ == "__main__":
    main()
